import pytest

from accounts import services
from accounts.models import Role, User
from audit.models import AuditEntry
from zcplatform.lib.actors import OPERATOR


@pytest.fixture
def root(db):
    return services.create_user("root@example.com", actor=OPERATOR, is_superuser=True)


@pytest.fixture
def admin(root, client):
    client.force_login(root)
    return client


def last():
    return AuditEntry.objects.order_by("-id").first()


def test_strangers_are_sent_to_the_login_page_and_members_are_refused(client, root):
    assert client.get("/admin/accounts/user/").status_code == 302
    assert (
        client.get("/admin/login/?next=/admin/accounts/user/")["Location"]
        == "/login?next=%2Fadmin%2Faccounts%2Fuser%2F"
    )
    client.force_login(services.create_user("u@example.com", actor=OPERATOR))
    answer = client.get("/admin/", follow=True)
    assert answer.status_code == 403
    assert b"Your account may not do this" in answer.content


def test_there_are_no_pages_about_passwords(admin):
    assert admin.get("/admin/password_change/").status_code == 404
    assert admin.get("/admin/password_change/done/").status_code == 404


def test_users_are_made_and_changed_through_the_service(admin):
    made = admin.post("/admin/accounts/user/add/", {"email": "New@Example.com", "name": "N", "is_active": "on"})
    assert made.status_code == 302, made.content
    user = User.objects.get(email="new@example.com")
    assert not user.has_usable_password()
    assert (last().action, last().actor_email) == ("user.create", "root@example.com")
    admin.post(f"/admin/accounts/user/{user.pk}/change/", {"name": "M", "is_superuser": "on"})
    user.refresh_from_db()
    assert (user.name, user.is_active, user.is_superuser) == ("M", False, True)
    assert (last().action, last().resource_name) == ("user.update", "new@example.com")
    assert len(last().request_id) == 32
    assert last().ip_address == "127.0.0.1"


def test_the_form_says_what_can_not_be(admin, root):
    taken = admin.post("/admin/accounts/user/add/", {"email": "ROOT@example.com", "is_active": "on"})
    assert b"already exists" in taken.content
    left = admin.post(f"/admin/accounts/user/{root.pk}/change/", {"name": "x", "is_active": "on"})
    assert b"last active super-admin" in left.content
    assert User.objects.get().is_superuser


def test_users_are_not_deleted_and_show_no_password(admin, root):
    assert admin.post(f"/admin/accounts/user/{root.pk}/delete/", {"post": "yes"}).status_code == 403
    page = admin.get(f"/admin/accounts/user/{root.pk}/change/").content.decode()
    assert root.password not in page
    assert "assword" not in page
    assert b"groups" not in admin.get("/admin/").content.lower()


def test_roles_are_made_changed_and_deleted_through_the_service(admin):
    data = {"name": "support", "label": "Support", "abilities": ["logs.read", "tenant.view"]}
    assert admin.post("/admin/accounts/role/add/", data).status_code == 302
    role = Role.objects.get()
    assert (role.abilities, last().action) == (["logs.read", "tenant.view"], "role.create")
    admin.post(f"/admin/accounts/role/{role.pk}/change/", {"label": "Support", "abilities": ["logs.read"]})
    role.refresh_from_db()
    assert (role.abilities, last().action) == (["logs.read"], "role.update")
    admin.post(f"/admin/accounts/role/{role.pk}/delete/", {"post": "yes"})
    assert not Role.objects.exists()
    assert last().action == "role.delete"


@pytest.mark.parametrize("change", [{"name": "owner"}, {"abilities": ["tenant.suspend"]}])
def test_a_role_that_may_not_be_is_refused_by_the_form(admin, change):
    data = {"name": "support", "label": "Support", "abilities": ["logs.read"], **change}
    assert admin.post("/admin/accounts/role/add/", data).status_code == 200
    assert not Role.objects.exists()


def test_k10_a_name_is_text_wherever_it_stands(admin, root):
    services.update_user(root, actor=OPERATOR, name="<img src=x onerror=alert(1)>")
    for page in ("/admin/accounts/user/", f"/admin/accounts/user/{root.pk}/change/", "/admin/"):
        assert b"<img src=x" not in admin.get(page).content


def test_logging_out_of_the_admin_is_audited(admin):
    assert admin.post("/admin/logout/")["Location"] == "/login"
    assert last().action == "login.end"
