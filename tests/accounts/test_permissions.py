import io
import json
from pathlib import Path

import pytest
from django.core.management import call_command

from accounts import permissions
from accounts.models import Role
from accounts.permissions import ABILITIES, ROLES, may_grant, role_can


@pytest.fixture(autouse=True)
def fresh_roles():
    permissions.forget_custom_roles()
    yield
    permissions.forget_custom_roles()


def test_each_role_has_all_of_the_one_below_and_more():
    viewer, contributor, manager, owner = ROLES.values()
    assert list(ROLES) == ["viewer", "contributor", "manager", "owner"]
    assert viewer < contributor < manager < owner


def test_every_ability_belongs_to_owner_or_to_super_admins_alone():
    assert ROLES["owner"] | permissions.SUPER_ADMIN_ONLY == set(ABILITIES)
    assert not ROLES["owner"] & permissions.SUPER_ADMIN_ONLY


@pytest.mark.parametrize(
    ("ability", "lowest"),
    [
        ("tenant.view", "viewer"),
        ("logs.read", "contributor"),
        ("tenant.restart", "manager"),
        ("tenant.deploy", "manager"),
        ("tenant.start", "manager"),
        ("tenant.stop", "manager"),
        ("config.update", "manager"),
        ("channels.update", "manager"),
        ("members.update", "manager"),
        ("exec.diagnostic", "manager"),
        ("audit.read", "manager"),
        ("tenant.resize", "owner"),
        ("tenant.delete", "owner"),
        ("tenant.transfer", "owner"),
        ("secrets.rotate", "owner"),
        ("exec.any", "owner"),
        ("tenant.suspend", None),
        ("tenant.reactivate", None),
    ],
)
def test_the_lowest_role_that_may(ability, lowest):
    assert next((role for role in ROLES if role_can(role, ability)), None) == lowest


def test_an_unknown_ability_is_an_error():
    with pytest.raises(KeyError, match=r"tenant\.destroy"):
        role_can("owner", "tenant.destroy")


def test_a_role_that_does_not_exist_may_nothing(db):
    assert not role_can("ghost", "tenant.view")
    assert not may_grant("owner", "ghost")


def test_a_custom_role_has_what_its_row_says_and_never_the_operators_abilities(db):
    Role.objects.create(name="support", label="Support", abilities=["logs.read", "tenant.suspend", "made.up"])
    assert role_can("support", "logs.read")
    assert not role_can("support", "tenant.view")
    assert not role_can("support", "tenant.suspend")


def test_a_row_named_like_a_built_in_role_changes_nothing(db):
    Role.objects.create(name="viewer", label="Evil", abilities=["tenant.delete"])
    assert not role_can("viewer", "tenant.delete")


@pytest.mark.parametrize(
    ("granter", "role", "allowed"),
    [
        ("owner", "owner", True),
        ("owner", "viewer", True),
        ("manager", "manager", True),
        ("manager", "owner", False),
        ("contributor", "viewer", False),
        ("viewer", "viewer", False),
    ],
)
def test_c6_nobody_grants_above_their_own_role(granter, role, allowed):
    assert may_grant(granter, role) is allowed


def test_c6_a_custom_role_with_an_owners_ability_is_above_a_manager(db):
    Role.objects.create(name="reaper", label="Reaper", abilities=["tenant.view", "tenant.delete"])
    assert not may_grant("manager", "reaper")
    assert may_grant("owner", "reaper")


def test_custom_roles_are_asked_for_once_in_a_while(db, django_assert_num_queries):
    Role.objects.create(name="support", label="Support", abilities=["logs.read"])
    with django_assert_num_queries(1):
        assert all(role_can("support", "logs.read") for _ in range(50))


def test_docs_roles_md_is_in_step_with_what_the_command_prints(settings):
    out = io.StringIO()
    call_command("roles", stdout=out)
    assert out.getvalue().strip() in (Path(settings.BASE_DIR) / "docs" / "roles.md").read_text()


def test_docs_api_md_is_in_step_with_the_scopes(settings):
    out = io.StringIO()
    call_command("roles", "--scopes", stdout=out)
    assert out.getvalue().strip() in (Path(settings.BASE_DIR) / "docs" / "api.md").read_text()


def test_the_command_prints_json():
    out = io.StringIO()
    call_command("roles", "--json", stdout=out)
    assert {role: set(abilities) for role, abilities in json.loads(out.getvalue()).items()} == ROLES


def test_names_that_do_not_exist_fill_no_memory(db):
    for number in range(3):
        assert permissions.abilities_of(f"made-up-{number}") == frozenset()
    assert permissions._custom == {}
