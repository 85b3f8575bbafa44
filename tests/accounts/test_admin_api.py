"""Accounts and roles over the API."""

import pytest

from accounts.models import Role, User
from accounts.permissions import ROLES
from audit.models import AuditEntry
from tests.accounts.conftest import Api, access_token, key_of

ROUTES = [
    ("get", "admin/users"),
    ("post", "admin/users"),
    ("get", "admin/users/{id}"),
    ("patch", "admin/users/{id}"),
    ("delete", "admin/users/{id}"),
    ("get", "admin/roles"),
    ("post", "admin/roles"),
    ("patch", "admin/roles/support"),
    ("delete", "admin/roles/support"),
]
BODIES = {
    "admin/users": {"email": "new@example.com"},
    "admin/users/{id}": {"name": "N"},
    "admin/roles": {"name": "new", "label": "New", "abilities": ["tenant.view"]},
    "admin/roles/support": {"label": "S"},
}


def send(api, method, path, target):
    body = BODIES.get(path) if method in ("post", "patch") else None
    return api(method, path.format(id=target.public_id), body)


@pytest.fixture
def support(db):
    return Role.objects.create(name="support", label="Support", abilities=["logs.read"])


@pytest.mark.parametrize(("method", "path"), ROUTES)
def test_c1_only_super_admins_get_through(dana, root, support, method, path):
    answer = send(Api(access_token(dana)), method, path, root)
    assert (answer.status_code, answer.json()["error"]["type"]) == (403, "forbidden")
    assert AuditEntry.objects.latest("id").action == "access.denied"
    assert send(Api("none"), method, path, root).status_code == 401
    writes = method != "get"
    reader = send(Api(key_of(root, "read")), method, path, dana)
    assert reader.status_code == (403 if writes else 200), reader.content
    writer = send(Api(key_of(root, "write")), method, path, dana)
    assert writer.status_code == (403 if writes else 200)
    owner = send(Api(key_of(root, "admin")), method, path, dana)
    assert owner.status_code in (200, 201, 204), owner.content


def test_users_are_listed_filtered_and_sorted(root, dana):
    User.objects.create_user("zoe@example.com", name="Zoe", is_active=False)
    api = Api(access_token(root))
    emails = lambda query: [item["email"] for item in api.get(f"admin/users{query}").json()["items"]]  # noqa: E731
    assert emails("") == ["dana@example.com", "root@example.com", "zoe@example.com"]
    assert emails("?order=-email") == emails("")[::-1]
    assert emails("?search=ZOE") == ["zoe@example.com"]
    assert emails("?is_active=false") == ["zoe@example.com"]
    assert emails("?is_superuser=true") == ["root@example.com"]
    assert emails("?search=%25") == []
    assert api.get("admin/users?order=password").status_code == 422
    assert api.get("admin/users?search=%00").status_code == 422


def test_no_answer_holds_more_of_an_account_than_is_listed(root):
    text = Api(access_token(root)).get("admin/users").content.decode()
    assert "password" not in text
    assert "stamp" not in text


def test_a_user_is_made_changed_and_closed(root):
    api = Api(access_token(root))
    made = api.post("admin/users", {"email": "New@Example.com", "name": "N"})
    assert (made.status_code, made.json()["email"]) == (201, "new@example.com")
    again = api.post("admin/users", {"email": "new@example.com"})
    assert (again.status_code, again.json()["error"]["type"]) == (409, "email_taken")
    assert api.post("admin/users", {"email": "no-address"}).json()["error"]["type"] == "invalid_email"
    place = f"admin/users/{made.json()['id']}"
    assert api("patch", place, {"name": "M"}).json()["name"] == "M"
    assert api("patch", place, {"name": "a\u0007b"}).status_code == 422
    assert api.delete(place).status_code == 204
    assert api.get(place).json()["is_active"] is False


@pytest.mark.parametrize("field", ["id", "email", "password", "stamp", "is_staff", "second_factor_at", "created_at"])
def test_c5_what_may_not_be_changed_is_refused(root, dana, field):
    answer = Api(access_token(root))("patch", f"admin/users/{dana.public_id}", {field: "x"})
    assert answer.status_code == 422


def test_the_last_super_admin_stays(root):
    api = Api(access_token(root))
    for answer in (
        api.delete(f"admin/users/{root.public_id}"),
        api("patch", f"admin/users/{root.public_id}", {"is_superuser": False}),
    ):
        assert (answer.status_code, answer.json()["error"]["type"]) == (409, "last_super_admin")


@pytest.mark.parametrize(
    "path", ["admin/users/00000000-0000-4000-8000-000000000000", "admin/roles/none", "admin/users/x"]
)
def test_what_does_not_exist(root, path):
    api = Api(access_token(root))
    assert api("patch", path, {"name": "x"} if "users" in path else {"label": "x"}).status_code in (404, 422)
    assert api.delete(path).status_code in (404, 422)


def test_roles_are_made_changed_and_deleted(root):
    api = Api(access_token(root))
    role = {"name": "support", "label": "Support", "abilities": ["logs.read", "tenant.view"]}
    assert api.post("admin/roles", role).json() == {**role, "built_in": False}
    assert api.post("admin/roles", role).json()["error"]["type"] == "role_taken"
    assert api("patch", "admin/roles/support", {"abilities": ["logs.read"]}).json()["abilities"] == ["logs.read"]
    listed = api.get("admin/roles").json()
    assert [row["name"] for row in listed] == [*ROLES, "support"]
    assert api.delete("admin/roles/support").status_code == 204
    assert not Role.objects.exists()


@pytest.mark.parametrize(
    ("change", "kind"),
    [
        ({"name": "owner"}, "role_reserved"),
        ({"name": "a b"}, "invalid_field"),
        ({"name": "support\n"}, "invalid_field"),
        ({"abilities": ["tenant.suspend"]}, "invalid_ability"),
        ({"abilities": ["everything"]}, "invalid_ability"),
        ({"abilities": ["platform.admin"]}, "invalid_ability"),
        ({"label": ""}, "invalid_field"),
        ({"built_in": True}, "invalid_field"),
    ],
)
def test_a_role_that_may_not_be(root, change, kind):
    role = {"name": "support", "label": "Support", "abilities": ["logs.read"], **change}
    answer = Api(access_token(root)).post("admin/roles", role)
    assert (answer.status_code, answer.json()["error"]["type"]) == (422, kind)


@pytest.mark.parametrize("name", ["owner", "viewer"])
def test_a_built_in_role_is_not_changed(root, name):
    api = Api(access_token(root))
    assert api("patch", f"admin/roles/{name}", {"label": "x"}).status_code == 404
    assert api.delete(f"admin/roles/{name}").status_code == 404
