"""Facts about many rows."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from django.conf import settings
from django.db import models
from django.db.models import Exists, OuterRef, Prefetch, Q, Subquery
from django.db.models.functions import Now

from tenants.states import SILENT, Desired, Health, RunStatus, Status
from zcplatform.lib import clock
from zcplatform.lib.actors import Actor


class TenantQuerySet(models.QuerySet[Any]):
    def alive(self) -> TenantQuerySet:
        return self.exclude(status=Status.DELETED)

    def seen_as(self, status: str) -> TenantQuerySet:
        """Those that people are shown as this: see ``Tenant.seen_as``."""
        silent = Q(status=Status.RUNNING, health=Health.FAILING)
        return self.filter(silent) if status == SILENT else self.filter(status=status).exclude(silent)

    def ownerless(self) -> TenantQuerySet:
        """Those that had or were to have an owner, that no active user owns, and nobody is invited to own."""
        tenants = self.model.objects
        owned = tenants.filter(members__role="owner", members__user__is_active=True)
        offer = {"role": "owner", "accepted_at": None, "revoked_at": None, "expires_at__gt": clock.now()}
        invited = tenants.filter(**{f"invitations__{name}": value for name, value in offer.items()})
        meant = tenants.filter(Q(members__role="owner") | Q(invitations__role="owner"))
        rows = self.exclude(desired=Desired.DELETED).filter(pk__in=meant.values("pk"))
        return rows.exclude(pk__in=owned.values("pk")).exclude(pk__in=invited.values("pk"))

    def visible_to(self, actor: Actor) -> TenantQuerySet:
        """Those the actor is a member of; all for the platform, an operator and a super-admin."""
        return self.all() if actor.unrestricted else self.alive().reached_by(actor)

    def reached_by(self, actor: Actor) -> TenantQuerySet:
        """The same, with the deleted ones that the actor was a member of."""
        if actor.unrestricted:
            return self.all()
        return self.filter(members__user_id=actor.user_id or 0, members__user__is_active=True)

    def in_trash(self) -> TenantQuerySet:
        """Deleted ones that can be brought back: neither purged nor due to be."""
        since = clock.now() - timedelta(days=settings.TRASH_DAYS)
        return self.filter(status=Status.DELETED, purged_at__isnull=True, deleted_at__gt=since)

    def for_answer(self, actor: Actor) -> TenantQuerySet:
        """With what the API tells of a tenant: plan, node, configuration, active holds, the actor's role. Two queries,
        however many rows."""
        members = self.model._meta.get_field("members").related_model._default_manager
        holds = self.model._meta.get_field("holds").related_model._default_manager
        mine = members.filter(tenant=OuterRef("pk"), user_id=actor.user_id or 0).values("role")[:1]
        active = Prefetch("holds", holds.filter(lifted_at__isnull=True).order_by("kind"), to_attr="active_holds")
        rows = self.select_related("plan", "node", "config").annotate(my_role=Subquery(mine))
        return rows.prefetch_related(active)

    def routed(self) -> TenantQuerySet:
        return self.alive().filter(routed=True, port__isnull=False)


class RunQuerySet(models.QuerySet[Any]):
    def claimable(self) -> RunQuerySet:
        """Runs that a worker may take now: queued, parked and due, or left behind by a dead worker; and no
        other run of the same tenant still has a worker inside."""
        others = self.model._default_manager.filter(tenant=OuterRef("tenant"), lease_until__gt=Now()).exclude(
            pk=OuterRef("pk")
        )
        due = (
            Q(status=RunStatus.QUEUED)
            | Q(status=RunStatus.PARKED, next_attempt_at__lte=Now())
            | Q(status=RunStatus.RUNNING, lease_until__lt=Now())
            | Q(status=RunStatus.RUNNING, lease_until__isnull=True)
        )
        return self.filter(due).exclude(Exists(others))

    def due_for_queue(self, *, patience_s: float = 10) -> RunQuerySet:
        """Claimable runs of which the queue has not been told, or was told so long ago that the task is lost."""
        return self.claimable().filter(
            Q(enqueued_at__isnull=True) | Q(enqueued_at__lt=Now() - timedelta(seconds=patience_s))
        )
