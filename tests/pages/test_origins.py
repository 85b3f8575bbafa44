"""A secret that was entered for another address: said on every page, and never in use."""

from __future__ import annotations

import pytest
from django.urls import reverse

from monitoring.alerting import contacts
from tenants import configuration
from tenants.configuration import ConfigInput
from tenants.models import Channel, Tenant
from tests.pages import table
from tests.pages.conftest import browser
from tests.tenants.test_channels import VALID
from zcplatform.lib.actors import OPERATOR
from zcplatform.lib.redact import SecretStr

SAID = "entered for another address; enter it again"


@pytest.fixture
def mattermost(stage):
    channel, run = configuration.add_channel(
        actor=OPERATOR, tenant=stage.tenant, kind="mattermost", values=VALID["mattermost"]
    )
    stage.world.drive(run)
    return channel


@pytest.mark.parametrize("by", ["page", "admin"])
def test_a_form_that_changes_a_channels_address_says_what_it_hides(stage, mattermost, by):
    role = "manager" if by == "page" else "super-admin"
    path = table.of(stage.tenant, "channel", mattermost.public_id)
    if by == "admin":
        path = reverse("admin:tenants_tenant_channel", args=[stage.tenant.pk, mattermost.public_id])
    client, form = browser(stage.people[role]), {"url": "https://thief.example.net", "enabled": "on"}
    answer = client.post(path, form, follow=True)
    assert any("not used any more: bot token" in str(message) for message in answer.context["messages"])
    assert not Channel.objects.get(pk=mattermost.pk).enabled
    assert SAID in client.get(path).content.decode()
    above = table.of(stage.tenant, "channels")
    if by == "admin":
        above = reverse("admin:tenants_tenant_change", args=[stage.tenant.pk])
    assert SAID in client.get(above).content.decode()


def test_the_configuration_says_that_its_key_is_for_another_address(stage):
    key = SecretStr("sk-canary-0123456789abcdef")
    for address in ("https://one.example.com/v1", "https://two.example.com/v1"):
        given = ConfigInput(provider="ollama", model="m", base_url=address, provider_key=key)
        run = configuration.update(actor=OPERATOR, tenant=Tenant.objects.get(pk=stage.tenant.pk), given=given)
        stage.world.drive(run)
        key = None
    for page in ("configuration", "overview"):
        assert SAID in browser(stage.people["manager"]).get(table.of(stage.tenant, page)).content.decode()
    admin = reverse("admin:tenants_tenant_configuration", args=[stage.tenant.pk])
    assert SAID in browser(stage.people["super-admin"]).get(admin).content.decode()


def test_the_dialog_of_a_rollback_says_what_becomes_of_the_secrets(stage, mattermost):
    manager = browser(stage.people["manager"])
    for provider in ("openai", "groq"):
        given = ConfigInput(provider=provider, model="m", provider_key=SecretStr(f"sk-canary-{provider}-0123"))
        run = configuration.update(actor=OPERATOR, tenant=Tenant.objects.get(pk=stage.tenant.pk), given=given)
        stage.world.drive(run)
    last = stage.tenant.revisions.order_by("-number").first().number

    def said(number):
        return manager.get(table.of(stage.tenant, "rollback", number)).content.decode()

    assert "The API key that is in use stays." in said(last)
    assert "The API key that was entered for that address is in use again." in said(last - 1)
    assert "The API key is not used any more; a later rollback can bring it back." in said(last - 2)
    assert "Mattermost is removed with its secrets." in said(last - 3)
    assert "The agent restarts." in said(last)
    configuration.delete_channel(actor=OPERATOR, channel=Channel.objects.get(pk=mattermost.pk))
    assert "Mattermost is off until its secrets are entered again." in said(last)


def test_a_rollback_that_needs_the_key_asks_for_it(stage):
    tenant = Tenant.objects.get(pk=stage.tenant.pk)
    for given in (
        ConfigInput(provider="openai", model="m", provider_key=SecretStr("sk-canary-0123456789")),
        ConfigInput(provider="", provider_key=SecretStr("")),
    ):
        stage.world.drive(configuration.update(actor=OPERATOR, tenant=stage.world.fresh(tenant), given=given))
    before = stage.tenant.revisions.order_by("-number")[1].number
    manager, path = browser(stage.people["manager"]), table.of(stage.tenant, "rollback", before)
    shown = manager.get(path).content.decode()
    assert "No API key is left" in shown and 'name="provider_key"' in shown
    manager.post(path, {"provider_key": "sk-entered-0123456789"})
    assert stage.world.fresh(tenant).config.provider_name == "openai"


@pytest.mark.parametrize("by", ["page", "admin"])
def test_a_form_that_changes_a_notifiers_address_says_that_it_is_off(stage, by):
    config = {"url": "https://hooks.example.com/one", "secret": "a-signing-secret-of-the-test"}
    row = contacts.create_notifier(
        actor=OPERATOR, tenant=stage.tenant, kind="webhook", name="Hook", config=config
    ).notifier
    path = table.of(stage.tenant, "notifier", row.public_id)
    if by == "admin":
        path = reverse("admin:monitoring_notifier_change", args=[row.pk])
    client = browser(stage.people["manager" if by == "page" else "super-admin"])
    form = {"name": "Hook", "min_severity": "warning", "enabled": "on", "url": "https://thief.example.net/"}
    answer = client.post(path, form, follow=True)
    assert any("It is off" in str(message) for message in answer.context["messages"])
    row.refresh_from_db()
    assert not row.enabled
    assert SAID in client.get(path).content.decode()
