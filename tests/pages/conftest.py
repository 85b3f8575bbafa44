"""A tenant in an engine of memory, with everybody who could look at its pages."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
from django.test import Client

from accounts.permissions import ROLES
from tenants import configuration, invitations
from tenants.models import Tenant
from tests.factories import MemberFactory, UserFactory
from tests.tenants.conftest import world  # noqa: F401
from tests.tenants.test_channels import VALID
from zcplatform.lib.actors import OPERATOR


def browser(user=None, **options):
    """A client that is logged in as ``user``."""
    client = Client(**options)
    if user is not None:
        client.force_login(user)
    return client


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
    return SimpleNamespace(
        world=world,
        tenant=Tenant.objects.get(pk=tenant.pk),
        people=people,
        channel=channel,
        invitation=offer,
        member=tenant.members.get(role="viewer"),
        run=tenant.runs.order_by("pk").first(),
        token=tenant.access_tokens.get(),
    )
