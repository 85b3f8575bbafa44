"""One row of each kind, valid as it stands; a test names only what it is about."""

from __future__ import annotations

from typing import Any

import factory
from django.conf import settings
from factory.django import DjangoModelFactory

from accounts.models import User
from tenants import models
from tenants.states import RunKind


class UserFactory(DjangoModelFactory):
    class Meta:
        model = User

    email = factory.Sequence(lambda n: f"user{n}@example.test")

    @classmethod
    def _create(cls, model_class: type[User], *args: Any, **kwargs: Any) -> User:
        return User.objects.create_user(**kwargs)


class PlanFactory(DjangoModelFactory):
    class Meta:
        model = models.Plan
        django_get_or_create = ("slug",)

    slug = "pro"
    name = "Pro"
    max_channels = 10
    max_members = 20
    max_messages_per_day = 10_000
    max_tokens_per_month = 10_000_000
    cpu_limit = 1
    memory_limit_mb = 1_024
    pids_limit = 128
    disk_limit_mb = 10_240


class NodeFactory(DjangoModelFactory):
    class Meta:
        model = models.Node
        django_get_or_create = ("name",)

    name = "local"
    runtime = "process"
    port_first = settings.PORT_RANGE[0]
    port_last = settings.PORT_RANGE[1]
    uid_first = settings.UID_RANGE[0]
    uid_last = settings.UID_RANGE[1]


class TenantFactory(DjangoModelFactory):
    """A draft: nothing reserved, nothing running."""

    class Meta:
        model = models.Tenant

    slug = factory.Sequence(lambda n: f"tenant-{n}")
    name = factory.LazyAttribute(lambda tenant: tenant.slug.title())
    plan = factory.SubFactory(PlanFactory)
    node = factory.SubFactory(NodeFactory)
    agent_kind = "demo"


class MemberFactory(DjangoModelFactory):
    class Meta:
        model = models.Member

    tenant = factory.SubFactory(TenantFactory)
    user = factory.SubFactory(UserFactory)
    role = "viewer"


class AgentConfigFactory(DjangoModelFactory):
    class Meta:
        model = models.AgentConfig

    tenant = factory.SubFactory(TenantFactory)


class ChannelFactory(DjangoModelFactory):
    class Meta:
        model = models.Channel

    tenant = factory.SubFactory(TenantFactory)
    channel_type = "webhook"


class RunFactory(DjangoModelFactory):
    """A queued provisioning run."""

    class Meta:
        model = models.Run

    tenant = factory.SubFactory(TenantFactory)
    kind = RunKind.PROVISION
    actor = "system"
