"""A deleted tenant comes back, for as long as the trash keeps its folder and its secrets."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta

from django.conf import settings
from django.db import IntegrityError, transaction

from accounts.models import User
from tenants import access_tokens, offer, revisions, secrets
from tenants.access import require
from tenants.events import emit
from tenants.models import Run, Tenant
from tenants.runs import accept, audit
from tenants.services import slugs_like
from tenants.states import Desired, Health, RunKind, Status
from tenants.status import save, set_status
from zcplatform.lib import clock
from zcplatform.lib.actors import Actor
from zcplatform.lib.errors import Conflict
from zcplatform.lib.redact import SecretStr


@dataclass(frozen=True)
class Undeleted:
    """``access_token`` is shown once and never again."""

    tenant: Tenant
    run: Run
    access_token: SecretStr


def undelete(*, actor: Actor, tenant: Tenant) -> Undeleted:
    """Take a deleted tenant out of the trash: stopped, or suspended under a hold that was never lifted, with its
    members, its configuration, its channels switched off and one new access token. The run brings back its folder.

    Its slug is the old one, or that with a number where somebody has it by now. Conflict ``not_deleted`` or ``purged``;
    Forbidden ``signup_limit`` where an owner has no room for it any more.
    """
    require(actor, "tenant.undelete", tenant)
    with transaction.atomic():
        row = Tenant.objects.select_for_update().select_related("plan", "node").get(pk=tenant.pk)
        _check(row, actor)
        _revive(row)
        with revisions.kept(row, "tenant.undelete", actor=actor):
            row.channels.update(enabled=False, updated_at=clock.now())
        secrets.remove(row, actor=actor, name="agent_token")  # the next start issues another
        token = access_tokens.replace_all(row, "undeleted", actor=actor)
        emit(row, "tenant.undelete", {"slug": row.slug, "was": tenant.slug})
        run = accept(row, RunKind.UNDELETE, actor=actor, prepare=lambda _row: None)
        audit(row, "tenant.undelete", actor, was=tenant.slug, run=str(run.public_id))
    return Undeleted(tenant=row, run=run, access_token=token)


def until(tenant: Tenant) -> datetime | None:
    """When the trash is emptied of it; None for what is not in the trash."""
    if tenant.status != Status.DELETED or tenant.purged_at or not tenant.deleted_at:
        return None
    return tenant.deleted_at + timedelta(days=settings.TRASH_DAYS)


def _check(row: Tenant, actor: Actor) -> None:
    if row.status != Status.DELETED:
        raise Conflict("This tenant is not deleted.", type="not_deleted")
    end = until(row)
    if end is None or end <= clock.now():
        raise Conflict("Its folder and its secrets are gone for good.", type="purged")
    for owner in User.objects.filter(memberships__tenant=row, memberships__role="owner", is_active=True):
        offer.check_room(actor, owner, row.plan, besides=row)


def _revive(row: Tenant) -> None:
    held = row.holds.filter(lifted_at__isnull=True).exists()
    desired = Desired.SUSPENDED if held else Desired.STOPPED
    save(row, slug=_free_slug(row), desired=desired, resume_to=Desired.STOPPED, deleted_at=None)
    try:
        with transaction.atomic():
            set_status(row, Status.SUSPENDED if held else Status.STOPPED)
    except IntegrityError as error:  # made by somebody else since we looked
        raise Conflict(f"The slug “{row.slug}” was taken just now; try again.", type="slug_taken") from error
    save(row, health=Health.UNKNOWN, health_at=clock.now(), routed=False, handle=None)


def _free_slug(row: Tenant) -> str:
    for slug in slugs_like(row.slug):
        if not Tenant.objects.alive().filter(slug=slug).exists():
            return slug
    raise Conflict(f"The slug “{row.slug}” and those like it are taken.", type="slug_taken")
