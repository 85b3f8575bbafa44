"""Who agreed to be told of alerts by mail.

A manager may write any address into a notifier, so an address counts only once its owner said yes: by the button behind
a link that is mailed to it, or by being a member of the tenant who has logged in (a super-admin, for the platform's
notifiers), which proves the address too. Whoever said stop is not told and not asked again, member or not.
"""

from __future__ import annotations

import hmac
from collections.abc import Iterable
from datetime import timedelta
from uuid import UUID

from django.conf import settings
from django.db import transaction
from django.db.models import Q, QuerySet

from accounts import mail
from accounts.emails import normalise_email
from accounts.letters import write
from accounts.models import Urgency, User
from accounts.rates import spend
from accounts.sealing import keyed_hash
from audit.services import Target
from monitoring.alerting.models import Agreement, Notifier
from monitoring.alerting.ownership import written
from tenants.models import Tenant
from zcplatform.lib import clock
from zcplatform.lib.actors import Actor
from zcplatform.lib.errors import Conflict, InvalidField, NotFound

LINK_LASTS = timedelta(days=14)
ASK_AGAIN = timedelta(days=1)
KEPT = timedelta(days=30)
AT_ONCE, LOOKED_AT = 20, 500
BY_SENDER = "60/hour"
PER_OWNER, PER_ADDRESS = 30, 3
"""Questions of one tenant in an hour, and to one address in a day, whoever asks. They are counted by the rows, so that
what has to wait takes nothing from what does not."""
AGREED, WAITING, STOPPED = "agreed", "waiting", "stopped"


def states(tenant: Tenant | None, addresses: Iterable[str]) -> dict[str, str]:
    """Of each address, normalised: agreed, waiting or stopped. What is no address is left out."""
    wanted = [found for found in map(_normal, addresses) if found]
    rows = {row.address: row for row in _of(tenant).filter(address__in=wanted)}
    known = set(_known(tenant).filter(email__in=wanted).values_list("email", flat=True))
    return {address: _state(rows.get(address), address in known) for address in wanted}


def states_of(notifier: Notifier) -> dict[str, str]:
    """``states`` of its recipients; empty but for mail."""
    return states(notifier.tenant, notifier.config.get("to", [])) if notifier.kind == "mail" else {}


def agreed(tenant: Tenant | None, addresses: Iterable[str]) -> list[str]:
    """Those of the addresses that may be told."""
    return [address for address, state in states(tenant, addresses).items() if state == AGREED]


def want(*, actor: Actor, tenant: Tenant | None, addresses: Iterable[str]) -> None:
    """Note that these addresses are to be asked; those that agreed, stopped or were asked within a day are left alone.
    RateLimited beyond 60 an hour by one user. ``ask_waiting`` sends the questions."""
    now = clock.now()
    waiting = [address for address, state in states(tenant, addresses).items() if state == WAITING]
    asked = set(_of(tenant).filter(address__in=waiting, asked_at__gt=now - ASK_AGAIN).values_list("address", flat=True))
    for address in waiting:
        if address in asked:
            continue
        if actor.user_id is not None:
            spend(BY_SENDER, "agreement-sender", str(actor.user_id))
        Agreement.objects.bulk_create([Agreement(tenant=tenant, address=address)], ignore_conflicts=True)
        _of(tenant).filter(address=address, agreed_at=None, stopped_at=None).update(asked_at=None, wanted_at=now)


def ask_waiting() -> int:
    """Mail the questions that wait, some at a time; how many. What a budget holds back waits for a later call."""
    rows = Agreement.objects.filter(asked_at=None, agreed_at=None, stopped_at=None).exclude(tenant__desired="deleted")
    asked = 0
    for row in rows.select_related("tenant").order_by("wanted_at", "pk")[:LOOKED_AT]:
        asked += _ask(row)
        if asked >= AT_ONCE:
            break
    return asked


def find(public_id: UUID, token: str) -> Agreement:
    """The row that a mailed link is about. NotFound for any other."""
    row = Agreement.objects.select_related("tenant").filter(public_id=public_id).first()
    if row is None or not hmac.compare_digest(_token(row).encode(), token.encode("utf-8", "replace")):
        raise NotFound("There is no such link.")
    return row


def is_open(row: Agreement) -> bool:
    """Whether its link can still be used to agree."""
    return row.agreed_at is not None or (row.asked_at is not None and clock.now() < row.asked_at + LINK_LASTS)


def agree(row: Agreement) -> None:
    """Let alerts go to this address; again changes nothing. Conflict ``link_expired`` two weeks after the question."""
    if not is_open(row):
        raise Conflict("This link has run out; ask whoever set up the alerts for another.", type="link_expired")
    _answer(row, "notifier.agree", agreed_at=clock.now(), stopped_at=None)


def stop(row: Agreement) -> None:
    """Let nothing go to this address any more, and no further question."""
    _answer(row, "notifier.stop", stopped_at=clock.now(), agreed_at=None)


def link_for(tenant: Tenant | None, address: str) -> str:
    """Where this address may say stop, or agree again; made when there is none yet."""
    Agreement.objects.bulk_create(
        [Agreement(tenant=tenant, address=address, asked_at=clock.now())], ignore_conflicts=True
    )
    _of(tenant).filter(address=address).update(wanted_at=clock.now())
    return link(_of(tenant).get(address=address))


def link(row: Agreement) -> str:
    """The page with the buttons. From the setting and never from a request's Host."""
    return f"{settings.PUBLIC_BASE_URL}/alerts/by-mail/{row.public_id}/{_token(row)}"


def prune() -> int:
    """Forget the addresses that never answered and were not told for a month; how many."""
    old = Agreement.objects.filter(agreed_at=None, stopped_at=None, wanted_at__lt=clock.now() - KEPT)
    return old.delete()[0]


def _ask(row: Agreement) -> bool:
    now = clock.now()
    of_address = Agreement.objects.filter(address=row.address, asked_at__gt=now - timedelta(days=1))
    of_owner = _of(row.tenant).filter(asked_at__gt=now - timedelta(hours=1))
    if of_address.count() >= PER_ADDRESS or of_owner.count() >= PER_OWNER:
        return False
    days, whose = LINK_LASTS.days, row.tenant.name if row.tenant else ""
    letter = write(
        "alert_agreement",
        f"Alerts of {whose or 'the platform'} by mail?",
        whose=whose,
        link=link(row),
        days=days,
        platform=settings.PUBLIC_BASE_URL,
    )
    with transaction.atomic():
        won = Agreement.objects.filter(pk=row.pk, asked_at=None).update(asked_at=now) == 1
        if won:
            mail.queue(row.address, letter, urgency=Urgency.INVITATION)
    return won


def _answer(row: Agreement, action: str, **columns: object) -> None:
    with transaction.atomic():
        fresh = Agreement.objects.select_for_update(of=("self",)).get(pk=row.pk)
        if bool(fresh.agreed_at) == bool(columns["agreed_at"]) and bool(fresh.stopped_at) == bool(
            columns["stopped_at"]
        ):
            return
        Agreement.objects.filter(pk=row.pk).update(**columns)
        target = Target("agreement", str(row.public_id), row.address)
        written(action, Actor(label=row.address), row.tenant, target)


def _normal(address: object) -> str:
    """Empty for what is no address: rows of before were checked by other rules."""
    try:
        return normalise_email(str(address))
    except InvalidField:
        return ""


def _of(tenant: Tenant | None) -> QuerySet[Agreement]:
    return Agreement.objects.filter(tenant=tenant) if tenant else Agreement.objects.filter(tenant__isnull=True)


def _known(tenant: Tenant | None) -> QuerySet[User]:
    """Whose address is proven, and who belongs to what the alerts are about."""
    whose = Q(memberships__tenant=tenant) if tenant else Q(is_superuser=True)
    return User.objects.filter(whose, is_active=True, last_login__isnull=False)


def _state(row: Agreement | None, known: bool) -> str:
    if row is not None and row.stopped_at is not None:
        return STOPPED
    return AGREED if known or (row is not None and row.agreed_at is not None) else WAITING


def _token(row: Agreement) -> str:
    return keyed_hash("alert-agreement", str(row.public_id), row.address).hex()[:40]
