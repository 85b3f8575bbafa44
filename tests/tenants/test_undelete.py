"""Back from the trash: what comes with a tenant, what does not, and who may."""

from __future__ import annotations

from datetime import timedelta

import pytest

from audit.models import AuditEntry
from tenants import services, tokens, trash
from tenants.configuration import ConfigInput
from tenants.models import AccessToken, Tenant, TenantSecret
from tenants.secrets import reveal_all
from tenants.states import Desired, HoldKind, Reason, RunStatus, Status
from tenants.undelete import undelete
from tests.commands import manage
from tests.factories import MemberFactory
from tests.tenants.test_channels import VALID
from vault.models import Secret
from zcplatform.lib import clock
from zcplatform.lib.actors import OPERATOR
from zcplatform.lib.errors import Conflict, Forbidden, NotFound, RunFailed
from zcplatform.lib.redact import SecretStr

KEY = "sk-0123456789abcdef"


@pytest.fixture
def acme(world):
    """Deleted, with a file of its own, a key, a channel and an owner."""
    given = ConfigInput(
        provider="openai", model="m", provider_key=SecretStr(KEY), channels=(("webhook", VALID["webhook"]),)
    )
    tenant = world.tenant(deploy=True, config=given)
    MemberFactory(tenant=tenant, role="owner")
    (tenant.folder / "data" / "note").write_text("mine")
    return deleted(world, tenant)


def deleted(world, tenant, **more):
    world.drive(services.delete(actor=OPERATOR, tenant=tenant, **more))
    gone = world.fresh(tenant)
    assert gone.status == Status.DELETED
    return gone


def back(world, tenant, actor=OPERATOR):
    made = undelete(actor=actor, tenant=tenant)
    assert world.drive(made.run).status == RunStatus.SUCCEEDED
    return made, world.fresh(tenant)


def test_what_comes_back_and_what_does_not(world, acme):
    old = AccessToken.objects.get(tenant=acme)
    agent = Secret.objects.filter(owner=str(acme.public_id), field="agent_token")
    assert not agent.exists()
    made, tenant = back(world, acme)
    assert (tenant.slug, tenant.status, tenant.desired) == ("acme", Status.STOPPED, Desired.STOPPED)
    assert (tenant.folder / "data" / "note").read_text() == "mine"
    assert not tenant.trash.exists()
    assert reveal_all(tenant, actor=OPERATOR, why="test").of_tenant["provider_key"].reveal() == KEY
    assert tenant.members.filter(role="owner").count() == 1
    assert [channel.enabled for channel in tenant.channels.all()] == [False]
    assert tokens.lookup(made.access_token.reveal()) is not None
    old.refresh_from_db()
    assert old.revoked_at is not None
    assert tenant.slot is not None
    assert AuditEntry.objects.filter(action="tenant.undelete", outcome="ok").count() == 1
    world.drive(services.start(actor=OPERATOR, tenant=tenant))
    assert world.fresh(tenant).status == Status.RUNNING
    assert agent.exists()
    assert world.agents()[-1].spec.uid == tenant.uid


def test_a_slug_that_is_taken_gets_a_number(world, acme):
    other = services.create_tenant(actor=OPERATOR, name="Acme", plan="pro", runtime="fake").tenant
    _made, tenant = back(world, acme)
    assert (other.slug, tenant.slug) == ("acme", "acme-2")


def test_a_slot_that_is_taken_is_not_given_twice(world, acme):
    other = services.create_tenant(actor=OPERATOR, name="Other", plan="pro", runtime="fake", deploy_now=True)
    world.drive(other.run)
    _made, tenant = back(world, acme)
    assert tenant.uid not in (None, world.fresh(other.tenant).uid)


def test_twice_is_refused_and_so_is_one_that_lives_or_is_gone_for_good(world, acme):
    back(world, acme)
    with pytest.raises(Conflict, match="not deleted"):
        undelete(actor=OPERATOR, tenant=acme)
    purged = deleted(world, world.fresh(acme), purge=True)
    with pytest.raises(Conflict, match="gone for good"):
        undelete(actor=OPERATOR, tenant=purged)
    assert not Secret.objects.filter(owner=str(acme.public_id)).exists()
    assert not TenantSecret.objects.filter(tenant=acme).exists()


def test_purge_and_the_end_of_the_days_end_folder_and_secrets(world, acme):
    Tenant.objects.filter(pk=acme.pk).update(deleted_at=clock.now() - timedelta(days=8))
    with pytest.raises(Conflict, match="gone for good"):
        undelete(actor=OPERATOR, tenant=acme)  # not purged yet, and due to be
    assert trash.purge_old() == 1
    assert not acme.trash.exists()
    assert not Secret.objects.filter(owner=str(acme.public_id)).exists()


def test_who_comes_back_while_the_trash_is_emptied_is_left_alone(world, acme, monkeypatch):
    Tenant.objects.filter(pk=acme.pk).update(deleted_at=clock.now() - timedelta(days=8))
    real = trash._is_still_there

    def meanwhile(tenant):
        Tenant.objects.filter(pk=acme.pk).update(deleted_at=clock.now())
        back(world, acme)
        return real(tenant)

    monkeypatch.setattr(trash, "_is_still_there", meanwhile)
    assert trash.purge_old() == 0
    assert (acme.folder / "data" / "note").exists()


def test_a_hold_outlives_deletion_and_return(world, acme):
    _made, tenant = back(world, acme)
    world.drive(services.suspend(actor=OPERATOR, tenant=tenant, hold=HoldKind.BILLING))
    gone = deleted(world, world.fresh(tenant))
    _made, tenant = back(world, gone)
    assert (tenant.status, tenant.reason, tenant.desired) == (Status.SUSPENDED, Reason.HELD, Desired.SUSPENDED)
    with pytest.raises(Conflict, match="suspended"):
        services.start(actor=OPERATOR, tenant=tenant)


def test_only_an_owner_may(world, acme):
    manager = MemberFactory(tenant=acme, role="manager").user.as_actor()
    with pytest.raises(Forbidden):
        undelete(actor=manager, tenant=acme)
    with pytest.raises(NotFound):
        undelete(actor=MemberFactory(tenant=world.tenant("Other")).user.as_actor(), tenant=acme)
    back(world, acme, acme.members.get(role="owner").user.as_actor())


def test_no_way_round_the_limit_of_sign_up(world, acme, settings):
    settings.SELF_SERVICE_SIGNUP, settings.SIGNUP_PLANS, settings.SIGNUP_MAX_TENANTS = True, ["pro"], 1
    owner = acme.members.get(role="owner").user
    MemberFactory(tenant=world.tenant("Other"), role="owner", user=owner)
    with pytest.raises(Forbidden, match="may own"):
        undelete(actor=owner.as_actor(), tenant=acme)
    assert world.fresh(acme).status == Status.DELETED


def test_a_run_that_fails_leaves_the_folder_to_the_next_start(world, acme, monkeypatch):
    def full(*_args):
        raise RunFailed("no", type="folder_failed")

    made = undelete(actor=OPERATOR, tenant=acme)
    with monkeypatch.context() as patch:
        patch.setattr("tenants.folders.DirectFolders.bring_back", full)
        assert world.drive(made.run).status == RunStatus.FAILED
    assert trash.purge_old() == 0
    world.drive(services.deploy(actor=OPERATOR, tenant=world.fresh(acme)))
    assert world.fresh(acme).status == Status.RUNNING
    assert (acme.folder / "data" / "note").read_text() == "mine"


def test_the_command(world, acme):
    done = manage("undelete", "acme")
    assert done.code == 0, done.err
    assert done.out.count("zct_") == 1
    assert "acme: stopped" in done.out
    assert manage("undelete", "acme").code == 1
    deleted(world, world.fresh(acme))
    other = services.create_tenant(actor=OPERATOR, name="Acme", plan="pro", runtime="fake").tenant
    deleted(world, world.fresh(other))
    several = manage("undelete", "acme")
    assert several.code == 1
    assert str(acme.public_id) in several.err
    assert manage("undelete", str(other.public_id), "--json").json["tenant"] == "acme"
