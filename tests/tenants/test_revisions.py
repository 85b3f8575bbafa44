"""The history of a configuration, and the way back. Secrets are named there, never held."""

from __future__ import annotations

import json

import pytest

from tenants import configuration, revisions
from tenants.configuration import ConfigInput
from tenants.models import Channel, ConfigRevision
from tenants.rollback import rollback
from tests.factories import MemberFactory
from vault.models import Secret
from zcplatform.lib.actors import OPERATOR
from zcplatform.lib.errors import Conflict, Forbidden, InvalidField, NotFound
from zcplatform.lib.redact import SecretStr

CANARY = "sk-canary-0123456789abcdef"
HOOK = {"secret": "hook-canary-0123456789"}


def set_provider(tenant, **values):
    configuration.update(actor=OPERATOR, tenant=tenant, given=ConfigInput(**values))


def openai(tenant, model="gpt-4o", key=CANARY):
    set_provider(tenant, provider="openai", model=model, provider_key=SecretStr(key) if key else None)


def history(tenant):
    return list(tenant.revisions.order_by("number").values_list("number", "action"))


def test_every_change_of_what_the_agent_is_told_becomes_a_revision(world):
    tenant = world.tenant()
    openai(tenant)
    channel, _ = configuration.add_channel(actor=OPERATOR, tenant=tenant, kind="webhook", values=HOOK)
    configuration.update_channel(actor=OPERATOR, channel=channel, values={}, enabled=False)
    configuration.delete_channel(actor=OPERATOR, channel=channel)
    actions = ["tenant.create", "config.update", "channel.create", "channel.update", "channel.delete"]
    assert history(tenant) == list(enumerate(actions, 1))
    last = tenant.revisions.get(number=2)
    assert (last.snapshot["provider"], last.snapshot["model"], last.actor) == ("openai", "gpt-4o", "operator")


def test_a_revision_names_secrets_and_holds_none(world):
    tenant = world.tenant()
    openai(tenant)
    configuration.add_channel(actor=OPERATOR, tenant=tenant, kind="webhook", values=HOOK)
    text = json.dumps(list(ConfigRevision.objects.values_list("snapshot", flat=True)))
    assert CANARY not in text and HOOK["secret"] not in text
    last = tenant.revisions.order_by("-number").first().snapshot
    assert Secret.objects.filter(public_id=last["secrets"]["provider_key"]).exists()
    assert Secret.objects.filter(public_id=last["channels"][0]["secrets"]["secret"]).exists()


def test_a_refused_change_leaves_no_revision(world):
    tenant = world.tenant()
    with pytest.raises(InvalidField):
        set_provider(tenant, provider="openai", model="gpt-4o")
    assert history(tenant) == [(1, "tenant.create")]


def test_what_was_there_before_there_was_a_history_is_noted_first(world):
    tenant = world.tenant()
    tenant.revisions.all().delete()
    openai(tenant)
    assert history(tenant) == [(1, revisions.FOUND), (2, "config.update")]
    assert tenant.revisions.get(number=1).snapshot["provider"] == ""


def test_only_the_last_hundred_are_kept_and_numbers_go_on(world, monkeypatch):
    monkeypatch.setattr(revisions, "KEEP", 3)
    tenant = world.tenant()
    for number in range(4):
        openai(tenant, model=f"m{number}")
    assert [number for number, _ in history(tenant)] == [3, 4, 5]


def test_changes_names_what_differs(world):
    tenant = world.tenant()
    openai(tenant)
    channel, _ = configuration.add_channel(actor=OPERATOR, tenant=tenant, kind="webhook", values=HOOK)
    first, second, third = (row.snapshot for row in tenant.revisions.order_by("number"))
    assert revisions.changes(first, second) == ["model", "provider", "provider_key"]
    assert revisions.changes(second, third) == [f"channels/{channel.public_id}"]
    assert revisions.changes(third, third) == []


def test_a_rollback_brings_back_values_and_channels_and_is_a_revision_itself(world):
    tenant = world.tenant()
    openai(tenant)
    channel, _ = configuration.add_channel(actor=OPERATOR, tenant=tenant, kind="webhook", values=HOOK)
    openai(world.fresh(tenant), model="gpt-5", key=None)
    configuration.update_channel(actor=OPERATOR, channel=channel, values={}, enabled=False)
    done = rollback(actor=OPERATOR, tenant=world.fresh(tenant), number=3)
    assert (done.run, done.incomplete) == (None, ())
    fresh = world.fresh(tenant)
    assert (fresh.config.provider_model, fresh.channels.get().enabled) == ("gpt-4o", True)
    assert history(tenant)[-1][1] == "config.rollback"
    wanted, now = tenant.revisions.get(number=3).snapshot, revisions.snapshot(fresh)
    assert revisions.changes(wanted, now) == []


def test_a_channel_that_was_deleted_is_back_but_off_until_its_secret_is_entered(world):
    tenant = world.tenant()
    channel, _ = configuration.add_channel(actor=OPERATOR, tenant=tenant, kind="webhook", values=HOOK)
    configuration.delete_channel(actor=OPERATOR, channel=channel)
    done = rollback(actor=OPERATOR, tenant=tenant, number=2)
    back = Channel.objects.get(tenant=tenant)
    assert (done.incomplete, back.public_id, back.enabled) == ((str(channel.public_id),), channel.public_id, False)
    with pytest.raises(InvalidField) as error:
        configuration.update_channel(actor=OPERATOR, channel=back, values={}, enabled=True)
    assert error.value.details["field"] == "secret"
    configuration.update_channel(actor=OPERATOR, channel=back, values=HOOK, enabled=True)
    assert Channel.objects.get(tenant=tenant).enabled


def test_a_channel_that_came_later_goes_with_its_secrets(world):
    tenant = world.tenant()
    configuration.add_channel(actor=OPERATOR, tenant=tenant, kind="webhook", values=HOOK)
    before = Secret.objects.count()
    rollback(actor=OPERATOR, tenant=tenant, number=1)
    assert not tenant.channels.exists()
    assert Secret.objects.count() == before - 1


def test_a_provider_key_that_was_deleted_has_to_be_given_again(world):
    tenant = world.tenant()
    openai(tenant)
    set_provider(tenant, provider="", provider_key=SecretStr(""))
    with pytest.raises(InvalidField) as error:
        rollback(actor=OPERATOR, tenant=world.fresh(tenant), number=2)
    assert error.value.details["field"] == "provider_key"
    rollback(actor=OPERATOR, tenant=world.fresh(tenant), number=2, provider_key=SecretStr(CANARY))
    assert world.fresh(tenant).config.provider_name == "openai"


def test_a_rollback_of_a_running_tenant_is_a_run_and_waits_for_none(world):
    tenant = world.tenant(deploy=True)
    openai(tenant)
    world.drive(tenant.runs.order_by("-pk").first())
    done = rollback(actor=OPERATOR, tenant=world.fresh(tenant), number=1)
    assert done.run.kind == "reconfigure"
    with pytest.raises(Conflict) as error:
        rollback(actor=OPERATOR, tenant=world.fresh(tenant), number=2, provider_key=SecretStr(CANARY))
    assert error.value.type == "run_active"


def test_who_may_not_change_the_configuration_may_not_roll_it_back(world, stranger):
    tenant = world.tenant()
    viewer = MemberFactory(tenant=tenant, role="viewer").user.as_actor()
    with pytest.raises(Forbidden):
        rollback(actor=viewer, tenant=tenant, number=1)
    for actor, number in ((stranger.as_actor(), 1), (OPERATOR, 9)):
        with pytest.raises(NotFound):
            rollback(actor=actor, tenant=tenant, number=number)


def test_a_rollback_beyond_the_plan_is_refused(world):
    tenant = world.tenant()
    for _ in range(2):
        configuration.add_channel(actor=OPERATOR, tenant=tenant, kind="webhook", values=HOOK)
    for channel in tenant.channels.all():
        configuration.delete_channel(actor=OPERATOR, channel=channel)
    tenant.plan.max_channels = 1
    tenant.plan.save()
    with pytest.raises(Forbidden) as error:
        rollback(actor=OPERATOR, tenant=tenant, number=3)
    assert error.value.type == "plan_limit"
    assert not tenant.channels.exists()


def test_a_whole_configuration_replaces_what_is_not_given(world):
    tenant = world.tenant()
    openai(tenant)
    configuration.update(actor=OPERATOR, tenant=tenant, given=ConfigInput(extra={"metrics": "none"}))
    whole = ConfigInput(provider="openai", model="gpt-5").complete()
    configuration.update(actor=OPERATOR, tenant=world.fresh(tenant), given=whole)
    config = world.fresh(tenant).config
    assert (config.provider_model, config.extra_config) == ("gpt-5", {})
    assert tenant.secrets.filter(field="provider_key").exists()
    configuration.update(actor=OPERATOR, tenant=world.fresh(tenant), given=ConfigInput().complete())
    assert world.fresh(tenant).config.provider_name == ""
    assert not tenant.secrets.filter(field="provider_key").exists()
