"""What a change would do to the agent's files: exact, without a secret, without storing anything."""

from __future__ import annotations

import pytest

from audit.models import AuditEntry
from tenants import configuration
from tenants.configuration import ConfigInput
from tenants.models import Tenant
from tenants.preview import preview
from tenants.provisioning.spec import config_files
from tests.factories import MemberFactory
from zcplatform.lib.actors import OPERATOR
from zcplatform.lib.errors import Forbidden, InvalidField, NotFound
from zcplatform.lib.redact import SecretStr

KEY = "sk-canary-0123456789abcdef"
OPENAI = ConfigInput(provider="openai", model="gpt-4o", provider_key=SecretStr(KEY))


def look(tenant, **values):
    return preview(actor=OPERATOR, tenant=tenant, given=ConfigInput(**values))


def test_nothing_given_changes_nothing(world):
    assert look(world.tenant()).files == ()


def test_the_difference_is_that_of_the_real_files(world):
    tenant = world.tenant(deploy=True)
    before = config_files(tenant)["demo.json"].decode()
    told = look(tenant, extra={"metrics": "none"})
    assert [(file.name, file.change) for file in told.files] == [("demo.json", "changed")]
    configuration.update(actor=OPERATOR, tenant=tenant, given=ConfigInput(extra={"metrics": "none"}))
    after = config_files(world.fresh(tenant))["demo.json"].decode()
    added = [line[1:] for line in told.files[0].diff.splitlines() if line.startswith("+") and line[1:2] != "+"]
    removed = [line[1:] for line in told.files[0].diff.splitlines() if line.startswith("-") and line[1:2] != "-"]
    assert added == [line for line in after.splitlines() if line not in before.splitlines()]
    assert removed == [line for line in before.splitlines() if line not in after.splitlines()]
    assert added


def test_secrets_are_stood_in_for_and_none_is_opened(world):
    tenant = world.tenant(agent="nanobot", config=OPENAI)
    reads = AuditEntry.objects.filter(action="secret.read").count()
    told = look(tenant, model="gpt-5", provider_key=SecretStr("sk-other-0123456789"))
    text = told.files[0].diff
    assert "[provider_key: stored]" in text and "[provider_key: new]" in text and "gpt-5" in text
    assert KEY not in text and "sk-other" not in text
    assert AuditEntry.objects.filter(action="secret.read").count() == reads


def test_a_key_that_stays_is_no_difference(world):
    tenant = world.tenant(agent="nanobot", config=OPENAI)
    text = look(tenant, model="gpt-5").files[0].diff
    assert "provider_key: new" not in text
    assert sum(line[:1] in "+-" and line[:3] not in ("+++", "---") for line in text.splitlines()) == 2


def test_whether_it_restarts_follows_from_what_is_meant_to_run(world):
    stopped = world.tenant()
    assert not look(stopped, extra={"metrics": "none"}).restart
    running = world.tenant("Other", deploy=True)
    assert look(running, extra={"metrics": "none"}).restart
    assert not look(running).restart


def test_an_agent_that_lacked_its_model_gets_its_first_file_and_one_that_would_lack_it_is_refused(world):
    draft = world.tenant(agent="nanobot")
    assert look(draft, provider="openai", model="m", provider_key=SecretStr(KEY)).files[0].change == "added"
    whole = world.tenant("Other", agent="nanobot", config=OPENAI)
    with pytest.raises(InvalidField) as error:
        look(whole, provider="")
    assert error.value.type == "bad_config"


def test_nothing_is_stored(world):
    tenant = world.tenant()
    rows = list(Tenant.objects.values()), list(AuditEntry.objects.values())
    look(tenant, provider="openai", model="gpt-4o", provider_key=SecretStr(KEY), extra={"metrics": "none"})
    fresh = world.fresh(tenant)
    assert (fresh.config.provider_name, fresh.config.extra_config) == ("", {})
    assert tenant.config.provider_name == ""
    assert (list(Tenant.objects.values()), list(AuditEntry.objects.values())) == rows


def test_who_may_not_change_it_gets_no_preview(world, stranger):
    tenant = world.tenant()
    viewer = MemberFactory(tenant=tenant, role="viewer").user
    with pytest.raises(Forbidden):
        preview(actor=viewer.as_actor(), tenant=tenant, given=ConfigInput())
    with pytest.raises(NotFound):
        preview(actor=stranger.as_actor(), tenant=tenant, given=ConfigInput())
