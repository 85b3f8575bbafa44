"""What an agent may connect to, on the tenant's configuration page and in the admin."""

from __future__ import annotations

import pytest
from django.urls import reverse

from tenants.egress.services import set_egress
from tenants.models import Tenant
from tests.pages import table
from tests.pages.conftest import browser
from zcplatform.lib.actors import OPERATOR

FORM = {"do": "save", "extra_config": "{}"}


@pytest.fixture
def narrow(stage):
    stage.world.drive(set_egress(actor=OPERATOR, tenant=stage.tenant, mode="allowlist", hosts=["api.example.com"]))
    return stage


def stored(stage):
    config = Tenant.objects.get(pk=stage.tenant.pk).config
    return config.egress, config.egress_hosts


def page(stage, role):
    return browser(stage.people[role]).get(table.of(stage.tenant, "configuration")).content.decode()


@pytest.mark.parametrize("role", ["viewer", "manager", "owner", "super-admin"])
def test_every_member_sees_the_mode_and_what_passes(narrow, role):
    text = page(narrow, role)
    assert "the listed hosts and its model" in text
    assert "<code>api.example.com</code>" in text


def test_an_owner_changes_it_and_the_run_applies_it(narrow):
    owner, path = browser(narrow.people["owner"]), table.of(narrow.tenant, "configuration")
    data = {**FORM, "egress": "gateway", "egress_hosts": "api.example.com\r\n"}
    seen = owner.post(path, {**data, "do": "preview"}).content.decode()
    assert "-mode: allowlist" in seen and "+mode: gateway" in seen
    assert "would be restarted" in seen
    done = owner.post(path, data)
    assert done["Location"].startswith("/runs/")
    assert stored(narrow) == ("gateway", ["api.example.com"])


def test_a_host_that_is_none_is_told_beside_its_field(narrow):
    owner, path = browser(narrow.people["owner"]), table.of(narrow.tenant, "configuration")
    answer = owner.post(path, {**FORM, "egress": "allowlist", "egress_hosts": "localhost"})
    assert list(answer.context["form"].errors) == ["egress_hosts"]
    assert stored(narrow) == ("allowlist", ["api.example.com"])


@pytest.mark.parametrize("forged", [{"egress": "open", "egress_hosts": "x.example.com"}, {}])
def test_a_manager_changes_the_rest_alone_and_what_is_not_sent_stays(narrow, forged):
    """The fields are shown and closed; what is sent all the same counts for nothing."""
    text = page(narrow, "manager")
    assert 'name="egress"' in text and "disabled" in text
    manager, path = browser(narrow.people["manager"]), table.of(narrow.tenant, "configuration")
    done = manager.post(path, {**FORM, "extra_config": '{"metrics": "none"}', **forged})
    assert done["Location"].startswith("/runs/")
    assert stored(narrow) == ("allowlist", ["api.example.com"])


def test_modes_wider_than_the_plan_are_offered_to_super_admins_alone(narrow, settings):
    settings.EGRESS_DEFAULT = {"": "gateway"}
    owner = browser(narrow.people["owner"])
    assert 'value="open"' not in page(narrow, "owner")
    assert 'value="open"' in page(narrow, "super-admin")
    owner.post(table.of(narrow.tenant, "configuration"), {**FORM, "egress": "open", "egress_hosts": ""})
    assert stored(narrow) == ("allowlist", ["api.example.com"])


def test_the_admin_shows_and_changes_it(narrow):
    boss = browser(narrow.people["super-admin"])
    told = boss.get(reverse("admin:tenants_tenant_change", args=[narrow.tenant.pk])).content.decode()
    assert "the listed hosts and its model" in told
    path = reverse("admin:tenants_tenant_configuration", args=[narrow.tenant.pk])
    assert "api.example.com" in boss.get(path).content.decode()
    boss.post(path, {**FORM, "egress": "", "egress_hosts": "a.example.com\nb.example.com"})
    assert stored(narrow) == ("", ["a.example.com", "b.example.com"])


def test_history_and_rollback_name_it(narrow):
    owner = browser(narrow.people["owner"])
    assert "may connect to, listed hosts" in owner.get(table.of(narrow.tenant, "history")).content.decode()
    first = narrow.tenant.revisions.order_by("number").first().number
    path = reverse("tenant_rollback", args=[narrow.tenant.slug, first])
    assert "api.example.com" in owner.get(path).content.decode()
    owner.post(path)
    assert stored(narrow) == ("", [])


@pytest.mark.parametrize("page", ["configuration", "setup_model"])
def test_a_manager_takes_the_model_of_a_narrow_agent_to_no_other_address(narrow, page):
    form = {**FORM, "provider": "custom", "model": "m", "provider_key": "sk-canary-0123456789", "do": "save"}
    form["base_url"] = "https://collect.example.net:8443/v1"
    path = table.of(narrow.tenant, page)
    refused = browser(narrow.people["manager"]).post(path, form)
    assert refused.status_code in (200, 403)
    narrow.tenant.config.refresh_from_db()
    assert narrow.tenant.config.base_url == ""
    browser(narrow.people["owner"]).post(path, form)
    narrow.tenant.config.refresh_from_db()
    assert narrow.tenant.config.base_url == form["base_url"]
