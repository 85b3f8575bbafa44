"""A tenant in an engine of memory, with everybody who could look at its pages."""

from __future__ import annotations

from datetime import timedelta
from types import SimpleNamespace

import pytest
from django.test import Client
from django.utils import translation

from accounts.permissions import ROLES
from monitoring.alerting import contacts, services
from monitoring.alerting.models import Alert
from tenants import configuration, invitations
from tenants.models import Tenant
from tests.factories import MemberFactory, UserFactory
from tests.tenants.conftest import world  # noqa: F401
from tests.tenants.test_channels import VALID
from zcplatform.lib import clock
from zcplatform.lib.actors import OPERATOR


@pytest.fixture(autouse=True)
def _language_of_the_settings():
    """A request in another language leaves it behind in this thread."""
    yield
    translation.deactivate()


def browser(user=None, **options):
    """A client that is logged in as ``user``."""
    client = Client(**options)
    if user is not None:
        client.force_login(user)
    return client


def alerts_of(tenant):
    """A rule of the tenant that fires, one that is over, a silence, and somebody who is told."""
    values = {"name": "Memory is short", "metric": "tenant_memory_pct", "threshold": 90}
    rule = services.create_rule(actor=OPERATOR, tenant=tenant, values=values)
    now = clock.now()
    about = {"rule": rule, "tenant": tenant, "name": rule.name, "severity": "warning", "condition": "Memory > 90 %"}
    about |= {"subject": str(tenant.public_id), "label": tenant.slug, "since": now, "seen_at": now}
    owner = tenant.members.get(role="owner").user.as_actor()
    return {
        "rule": rule,
        "alert": Alert.objects.create(state="firing", fired_at=now, value=93.25, **about),
        "over": Alert.objects.create(state="resolved", resolved_at=now, **about),
        "silence": services.silence(actor=owner, until=now + timedelta(hours=1), rule=rule, note="known"),
        "notifier": contacts.create_notifier(
            actor=OPERATOR, tenant=tenant, kind="mail", name="On call", config={"to": ["oncall@example.test"]}
        ).notifier,
    }


@pytest.fixture
def stage(world):  # noqa: F811
    """``tenant`` runs; ``people`` has one user for each role, a stranger and a super-admin."""
    tenant = world.tenant(deploy=True)
    people = {role: MemberFactory(tenant=tenant, role=role).user for role in ROLES}
    people["stranger"] = MemberFactory(tenant=world.tenant("Other"), role="owner").user
    people["super-admin"] = UserFactory(is_superuser=True)
    channel, run = configuration.add_channel(
        actor=OPERATOR, tenant=tenant, kind="telegram", values=dict(VALID["telegram"])
    )
    world.drive(run)
    offer = invitations.invite(actor=OPERATOR, tenant=tenant, email="new@example.test", role="viewer")
    watch = alerts_of(tenant)
    return SimpleNamespace(
        **watch,
        world=world,
        tenant=Tenant.objects.get(pk=tenant.pk),
        people=people,
        channel=channel,
        invitation=offer,
        member=tenant.members.get(role="viewer"),
        run=tenant.runs.order_by("pk").first(),
        token=tenant.access_tokens.get(),
    )
