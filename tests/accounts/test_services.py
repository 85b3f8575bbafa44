import json
import threading

import pytest
from django.db import connection

from accounts import services
from accounts.models import Role, User
from accounts.permissions import role_can
from audit.models import AuditEntry
from zcplatform.lib.actors import OPERATOR
from zcplatform.lib.errors import Conflict, InvalidField


@pytest.fixture
def root(db):
    return services.create_user("root@example.com", actor=OPERATOR, is_superuser=True)


def test_a_user_has_no_password_and_an_audit_row(root):
    assert not root.has_usable_password()
    assert (root.is_staff, root.has_perm("anything"), root.has_module_perms("accounts")) == (True, True, True)
    entry = AuditEntry.objects.get()
    assert (entry.action, entry.resource_id, entry.resource_name) == ("user.create", str(root.public_id), root.email)


@pytest.mark.parametrize("email", ["Root@Example.com", " root@example.com ", "ｒoot@example.com"])
def test_a9_one_address_is_one_account_however_it_is_spelt(root, email):
    with pytest.raises(Conflict) as refused:
        services.create_user(email, actor=OPERATOR)
    assert refused.value.type == "email_taken"
    assert AuditEntry.objects.count() == 1


@pytest.mark.parametrize("email", ["a@b.c\r\nBcc: all@x", "x" * 1_000_000 + "@example.com", "no address", ""])
def test_a10_a11_what_is_no_address_is_refused(db, email):
    with pytest.raises(InvalidField) as refused:
        services.create_user(email, actor=OPERATOR)
    assert refused.value.type == "invalid_email"
    assert len(refused.value.message) < 256


def test_an_ordinary_or_inactive_user_has_no_permission_in_the_admin(root):
    user = services.create_user("u@example.com", actor=OPERATOR)
    assert not (user.is_staff or user.has_perm("x") or user.has_module_perms("x"))
    root.is_active = False
    assert not (root.has_perm("x") or root.has_module_perms("x"))


def test_changes_are_audited_with_before_and_after(root):
    user = services.create_user("u@example.com", actor=OPERATOR)
    changed = services.update_user(user, actor=root.as_actor(), name="Uma", is_superuser=True)
    assert (changed.name, changed.is_superuser) == ("Uma", True)
    entry = AuditEntry.objects.order_by("-id").first()
    assert (entry.action, entry.actor_email) == ("user.update", "root@example.com")
    assert json.loads(entry.detail_json)["changed"] == {"is_superuser": [False, True], "name": ["", "Uma"]}
    count = AuditEntry.objects.count()
    services.update_user(user, actor=root.as_actor(), name="Uma")
    assert AuditEntry.objects.count() == count


@pytest.mark.parametrize("change", [{"is_active": False}, {"is_superuser": False}])
def test_the_last_super_admin_stays_one(root, change):
    with pytest.raises(Conflict) as refused:
        services.update_user(root, actor=OPERATOR, **change)
    assert refused.value.type == "last_super_admin"
    root.refresh_from_db()
    assert root.is_active
    assert root.is_superuser


def test_the_super_admins_are_locked_together_and_in_one_order(root):
    """SQLite locks the whole file; elsewhere two who demote each other must wait for one another."""
    second = services.create_user("b@example.com", actor=OPERATOR, is_superuser=True)
    user = services.create_user("u@example.com", actor=OPERATOR)
    services.create_user("other@example.com", actor=OPERATOR)
    locked = services._locked(user)
    assert locked.query.select_for_update
    assert list(locked) == [root, second, user]


@pytest.mark.django_db(transaction=True)
def test_c6_two_super_admins_who_demote_each_other_at_once_leave_one():
    two = [services.create_user(f"{n}@example.com", actor=OPERATOR, is_superuser=True) for n in "ab"]
    barrier, raised = threading.Barrier(2), []

    def demote(user):
        barrier.wait()
        try:
            services.update_user(user, actor=OPERATOR, is_superuser=False)
        except Conflict as error:
            raised.append(error.type)
        finally:
            connection.close()

    threads = [threading.Thread(target=demote, args=(user,)) for user in two]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert raised == ["last_super_admin"]
    assert User.objects.filter(is_superuser=True).count() == 1


def test_c5_other_columns_can_not_be_changed(root):
    with pytest.raises(TypeError, match="email"):
        services.update_user(root, actor=OPERATOR, email="other@example.com")


def test_b4_who_is_made_inactive_is_out_with_the_next_request(root, client):
    other = services.create_user("two@example.com", actor=OPERATOR, is_superuser=True)
    client.force_login(other)
    assert client.get("/admin/").status_code == 200
    services.update_user(other, actor=root.as_actor(), is_active=False)
    assert client.get("/admin/").status_code == 302


def test_a_custom_role_is_made_changed_and_deleted_with_audit(db):
    role = services.save_role(Role(name="support", label="Support", abilities=["logs.read"]), actor=OPERATOR)
    assert role_can("support", "logs.read")
    role.abilities = ["tenant.view", "tenant.view"]
    services.save_role(role, actor=OPERATOR)
    assert role.abilities == ["tenant.view"]
    assert not role_can("support", "logs.read")
    services.delete_role(role, actor=OPERATOR)
    assert not role_can("support", "tenant.view")
    actions = list(AuditEntry.objects.order_by("id").values_list("action", "resource_id"))
    assert actions == [("role.create", "support"), ("role.update", "support"), ("role.delete", "support")]


@pytest.mark.parametrize(
    ("name", "abilities", "type"),
    [
        ("owner", ["logs.read"], "role_reserved"),
        ("support", ["logs.raed"], "invalid_ability"),
        ("support", ["tenant.reactivate"], "invalid_ability"),
    ],
)
def test_a_role_that_may_not_be_is_refused(db, name, abilities, type):
    with pytest.raises(InvalidField) as refused:
        services.save_role(Role(name=name, label="x", abilities=abilities), actor=OPERATOR)
    assert refused.value.type == type
    assert not Role.objects.exists()
    assert not AuditEntry.objects.exists()


def test_createsuperuser_ignores_a_password(db):
    user = User.objects.create_superuser(email="x@example.com", password="ignored-by-design")
    assert not user.has_usable_password()
