"""Login by a code sent to one's address: 6 digits, 10 minutes, once, at most 5 compares.

Nothing here tells whether an address has an account: asking for a code looks at no account at all (the mail is dropped
later when there is none), and every wrong code gets one answer.
"""

from __future__ import annotations

import hmac
import re
import secrets
from datetime import timedelta

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
from zcplatform.lib.errors import InvalidField, Unauthenticated

LIFETIME = timedelta(minutes=10)
MAX_ATTEMPTS = 5
CLOCK_SLACK = timedelta(seconds=30)
"""So far a clock may be set back before a code of the future is refused."""
PER_ADDRESS, PER_NETWORK = "5/15minutes", "30/15minutes"
VERIFIES_PER_NETWORK = "100/15minutes"
_CODE = re.compile(r"[0-9]{6}")


def request_code(email: str, *, ip: str) -> None:
    """Send a new code to ``email``; the one of before is dead. InvalidField ``invalid_email``, RateLimited.

    A budget that is spent kills no code: one that was sent already still works.
    """
    address = normalise_email(email)
    if ip:
        spend(PER_NETWORK, "code-network", network_of(ip))
    spend(PER_ADDRESS, "code-address", address)
    code = f"{secrets.randbelow(10**6):06}"
    now = clock.now()
    row = LoginCode(email=address, code_hash=_hash(address, code), created_at=now, expires_at=now + LIFETIME)
    with transaction.atomic():
        LoginCode.objects.bulk_create(
            [row],
            update_conflicts=True,
            unique_fields=["email"],
            update_fields=["code_hash", "attempts", "created_at", "expires_at", "used_at"],
        )
        mail.queue(address, _letter(code), urgency=Urgency.CODE, lasts=LIFETIME, needs_account=True)


def verify_code(email: str, code: str, *, ip: str = "", request_id: str = "") -> User:
    """The active user whom ``code`` lets in. The code is used up; what comes next may ask for a second factor.

    InvalidField ``invalid_code_format`` for anything but 6 ASCII digits, RateLimited, and for everything else one
    Unauthenticated ``invalid_code``.
    """
    if not _CODE.fullmatch(code):
        raise InvalidField("A code has 6 digits, and nothing else.", type="invalid_code_format", field="code")
    address = normalise_email(email)
    if ip:
        spend(VERIFIES_PER_NETWORK, "verify-network", network_of(ip))
    with transaction.atomic():
        user = _user_behind(address, _hash(address, code))
        if user is None:
            stranger = Actor(label="anonymous", ip=ip, request_id=request_id)
            record("login.refused", actor=stranger, outcome="denied", detail={"by": "code", "email": address})
    if user is None:
        raise Unauthenticated("This code is wrong, used or too old.", type="invalid_code")
    return user


def prune() -> int:
    """Forget codes that have run out; how many."""
    return LoginCode.objects.filter(expires_at__lt=clock.now()).delete()[0]


def _user_behind(address: str, code_hash: str) -> User | None:
    """The attempt is counted before the compare, and in its transaction: of many at once no more than 5 compare."""
    now = clock.now()
    live = LoginCode.objects.filter(
        email=address,
        used_at=None,
        attempts__lt=MAX_ATTEMPTS,
        created_at__lte=now + CLOCK_SLACK,
        expires_at__gt=now,
    )
    if live.update(attempts=F("attempts") + 1) != 1:
        return None
    row = LoginCode.objects.get(email=address)
    if not hmac.compare_digest(row.code_hash, code_hash):
        return None
    if LoginCode.objects.filter(pk=row.pk, used_at=None, code_hash=code_hash).update(used_at=now) != 1:
        return None
    return User.objects.filter(email=address, is_active=True).first()


def _hash(address: str, code: str) -> str:
    return keyed_hash("login-code", address, code).hex()


def _letter(code: str) -> Letter:
    minutes = int(LIFETIME.total_seconds() // 60)
    return write("login_code", "Your login code", code=code, minutes=minutes, platform=settings.PUBLIC_BASE_URL)
