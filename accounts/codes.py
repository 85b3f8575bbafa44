"""Login by a code sent to one's address: 6 digits, 10 minutes, once, at most 5 compares for whoever asked for it.

A code belongs to its asker, who is known by a handle (in a browser's session, or in the API's answer) and without one
by the network. What a stranger asks for or tries is on the stranger's account: it kills nobody's code and spends
nobody's tries. An address for which many ask gets one long code instead of more short ones, so that neither
the guesses nor the mails grow with the number of strangers, and whoever reads the mail still gets in.

Nothing here tells whether an address has an account: asking for a code looks at no account at all (the mail is dropped
later when there is none), and every wrong code gets one answer.
"""

from __future__ import annotations

import hmac
import re
import secrets
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from django.conf import settings
from django.db import transaction
from django.db.models import F

from accounts import mail
from accounts.emails import normalise_email
from accounts.letters import Letter, write
from accounts.models import LoginCode, Urgency, User
from accounts.rates import network_of, spend
from accounts.sealing import keyed_hash
from audit.services import record
from zcplatform.lib import clock
from zcplatform.lib.actors import Actor
from zcplatform.lib.errors import InvalidField, RateLimited, Unauthenticated

LIFETIME = timedelta(minutes=10)
MAX_ATTEMPTS = 5
CLOCK_SLACK = timedelta(seconds=30)
"""So far a clock may be set back before a code of the future is refused."""
PER_ASKER, PER_NETWORK = "5/15minutes", "30/15minutes"
"""Codes for one address to one network, and codes for all addresses to one network."""
SHORT_CODES = ("10/15minutes", "40/day")
"""Of one address, whoever asks. Above that there is the long code: these many can be guessed at."""
VERIFIES_PER_NETWORK = "100/15minutes"
DIGITS, CROWD_DIGITS = 6, 12
CROWD_FRESH = timedelta(minutes=5)
"""For so long nobody is mailed another long code: the one of before is there, and good for as long again."""
CROWD = "crowd"
_CODE = re.compile(rf"[0-9]{{{DIGITS}}}|[0-9]{{{CROWD_DIGITS}}}")


def request_code(email: str, *, ip: str, before: str = "", by_network: bool = True) -> str:
    """Send a new code to ``email``; the handle that it is bound to. The code behind the handle ``before`` is dead.
    InvalidField ``invalid_email``, RateLimited for this asker alone.

    ``by_network`` lets the code be used without its handle from the network of ``ip``. A budget that is spent kills no
    code: one that was sent already still works.
    """
    address, network, handle = normalise_email(email), network_of(ip), secrets.token_urlsafe(32)
    if ip:
        spend(PER_NETWORK, "code-network", network)
    spend(PER_ASKER, "code-asker", address, network)
    with transaction.atomic():
        if before:
            LoginCode.objects.filter(email=address, handle_hash=_handle_hash(before)).delete()
    try:
        for budget in SHORT_CODES:
            spend(budget, "code-short", address)
    except RateLimited:
        _send_long(address)
    else:
        _send(address, _digits(DIGITS), handle_hash=_handle_hash(handle), network=network if by_network else "")
    return handle


def verify_code(email: str, code: str, *, handle: str = "", ip: str = "", request_id: str = "") -> User:
    """The active user whom ``code`` lets in. The code is used up; what comes next may ask for a second factor.

    InvalidField ``invalid_code_format`` for anything but 6 or 12 ASCII digits, RateLimited, and for everything else one
    Unauthenticated ``invalid_code``.
    """
    if not _CODE.fullmatch(code):
        raise InvalidField("A code has 6 or 12 digits, and nothing else.", type="invalid_code_format", field="code")
    address = normalise_email(email)
    if ip:
        spend(VERIFIES_PER_NETWORK, "verify-network", network_of(ip))
    with transaction.atomic():
        user = _user_behind(_asked_by(address, code, handle, network_of(ip)), address, _hash(address, code))
        if user is None:
            stranger = Actor(label="anonymous", ip=ip, request_id=request_id)
            record("login.refused", actor=stranger, outcome="denied", detail={"by": "code", "email": address})
    if user is None:
        raise Unauthenticated("This code is wrong, used or too old.", type="invalid_code")
    return user


def prune() -> int:
    """Forget codes that have run out; how many."""
    return LoginCode.objects.filter(expires_at__lt=clock.now()).delete()[0]


@dataclass(frozen=True)
class _Asked:
    """Which row a code is held against (0: none), and where the try is counted; a long code's tries are not."""

    pk: int
    counter: str = ""


def _asked_by(address: str, code: str, handle: str, network: str) -> _Asked:
    rows = LoginCode.objects.filter(email=address).order_by("-pk").values_list("pk", flat=True)
    if len(code) == CROWD_DIGITS:
        return _Asked(rows.filter(crowd=True).first() or 0)
    if handle:
        return _Asked(rows.filter(handle_hash=_handle_hash(handle), crowd=False).first() or 0, "attempts")
    return _Asked(rows.filter(network=network, crowd=False).first() or 0, "attempts_of_network")


def _user_behind(asked: _Asked, address: str, code_hash: str) -> User | None:
    """The attempt is counted before the compare, and in its transaction: of many at once no more than 5 compare."""
    now = clock.now()
    live = LoginCode.objects.filter(pk=asked.pk, used_at=None, created_at__lte=now + CLOCK_SLACK, expires_at__gt=now)
    if asked.counter:
        live = live.filter(**{f"{asked.counter}__lt": MAX_ATTEMPTS})
        if live.update(**{asked.counter: F(asked.counter) + 1}) != 1:
            return None
    row = LoginCode.objects.filter(pk=asked.pk).first() if asked.counter else live.first()
    if row is None or not hmac.compare_digest(row.code_hash, code_hash):
        return None
    if LoginCode.objects.filter(pk=row.pk, used_at=None, code_hash=code_hash).update(used_at=now) != 1:
        return None
    return User.objects.filter(email=address, is_active=True).first()


def _send(address: str, code: str, **binding: Any) -> None:
    now = clock.now()
    row = LoginCode(email=address, code_hash=_hash(address, code), created_at=now, expires_at=now + LIFETIME, **binding)
    with transaction.atomic():
        LoginCode.objects.bulk_create(
            [row],
            update_conflicts=True,
            unique_fields=["handle_hash"],
            update_fields=["code_hash", "attempts", "created_at", "expires_at", "used_at"],
        )
        mail.queue(address, _letter(code), urgency=Urgency.CODE, lasts=LIFETIME, needs_account=True)


def _send_long(address: str) -> None:
    """The long code, unless there is one in the mailbox already. One that was used is none."""
    now, handle_hash = clock.now(), _hash(address, CROWD)
    fresh = LoginCode.objects.filter(
        handle_hash=handle_hash, used_at=None, created_at__gt=now - CROWD_FRESH, created_at__lte=now + CLOCK_SLACK
    )
    if not fresh.exists():
        _send(address, _digits(CROWD_DIGITS), handle_hash=handle_hash, crowd=True)


def _digits(number: int) -> str:
    return f"{secrets.randbelow(10**number):0{number}}"


def _handle_hash(handle: str) -> str:
    return keyed_hash("login-code-handle", handle).hex()


def _hash(address: str, code: str) -> str:
    return keyed_hash("login-code", address, code).hex()


def _letter(code: str) -> Letter:
    minutes = int(LIFETIME.total_seconds() // 60)
    return write(
        "login_code",
        "Your login code",
        code=code,
        crowd=len(code) > DIGITS,
        minutes=minutes,
        platform=settings.PUBLIC_BASE_URL,
    )
