"""The second factor: a code of an authenticator app (TOTP), or one of ten recovery codes, by django-otp.

No secret of either stands in the database. An app's secret is derived from PEPPER, the user and the device's random
``key``; of recovery codes a keyed hash is stored. To enrol or remove it is to log out everywhere else, API keys
included: whatever works afterwards was opened under the new rule.
"""

from __future__ import annotations

import base64
import re
import secrets
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote, urlencode, urlsplit

from django.conf import settings
from django.db import transaction
from django_otp.plugins.otp_static.models import StaticDevice

from accounts import logins
from accounts.devices import AppDevice
from accounts.models import Login, User
from accounts.rates import network_of, spend
from accounts.sealing import keyed_hash
from accounts.targets import target_of
from audit.services import record
from zcplatform.lib import clock
from zcplatform.lib.actors import Actor
from zcplatform.lib.errors import Conflict, Unauthenticated
from zcplatform.lib.redact import remember

RECOVERY_CODES = 10
BUDGETS = ("10/15minutes", "50/day")
"""An app's codes that may be tried for one user, in all logins that are under way and in each login that is open: with
three valid codes of a million, 1 in 6,000 guessed in a day. Whoever reads the user's mail may spend the former; the
user is left with open logins, which count for themselves, and with a recovery code."""
RECOVERY_BUDGET = "10/15minutes"
"""From one network: 50 bits are not guessed, and nobody elsewhere spends it."""
RECOVERY = "recovery"
_APP_CODE = re.compile(r"[0-9]{6}")
_RECOVERY_CODE = re.compile(r"[a-z2-7]{10}")


def begin(user: User) -> AppDevice:
    """A new app that is not enrolled yet; one begun before and left is forgotten. Conflict ``already_enrolled``."""
    with transaction.atomic():
        _refuse_enrolled(user)
        AppDevice.objects.filter(user=user, confirmed=False).delete()
        return AppDevice.objects.create(user=user, name="app", confirmed=False)


def pending(user: User) -> AppDevice | None:
    """The app that was begun and waits for its first code."""
    return AppDevice.objects.filter(user=user, confirmed=False).first()


def app_url(device: AppDevice) -> str:
    """What an app reads from the QR code; a secret. ``app_secret`` is the part for typing."""
    host = urlsplit(settings.PUBLIC_BASE_URL).hostname or "zcplatform"
    words = {"secret": app_secret(device), "issuer": f"zcplatform {host}", "digits": 6, "period": 30}
    return f"otpauth://totp/{quote(f'zcplatform {host}:{device.user.email}')}?{urlencode(words, quote_via=quote)}"


def app_secret(device: AppDevice) -> str:
    """The secret in base32."""
    secret = base64.b32encode(device.bin_key).decode()
    remember(secret)
    return secret


def confirm(user: User, code: str, *, actor: Actor) -> list[str]:
    """Enrol the app that was begun by its first code. The recovery codes, which are shown this once.

    Conflict ``already_enrolled`` or ``nothing_begun``, Unauthenticated ``invalid_code``, RateLimited.
    """
    _spend(user, "enrol")
    with transaction.atomic():
        _refuse_enrolled(user)
        device = AppDevice.objects.select_for_update().filter(user=user, confirmed=False).first()
        if device is None:
            raise Conflict("Begin to enrol first.", type="nothing_begun")
        if not (_APP_CODE.fullmatch(code) and device.verify_token(code)):
            raise _wrong()
        AppDevice.objects.filter(pk=device.pk).update(confirmed=True)
        return _enrolled(user, actor)


@dataclass(frozen=True)
class Enrolled:
    """What an operator passes on to the user, once."""

    device: AppDevice
    recovery_codes: list[str]

    def shown(self) -> dict[str, Any]:
        """In plain values, secrets included."""
        return {
            "url": app_url(self.device),
            "secret": app_secret(self.device),
            "recovery_codes": self.recovery_codes,
        }


def enrol_by_operator(user: User, *, actor: Actor) -> Enrolled:
    """Enrol an app without its first code, for whoever has a shell; Conflict ``already_enrolled``."""
    device = begin(user)
    with transaction.atomic():
        AppDevice.objects.filter(pk=device.pk).update(confirmed=True)
        return Enrolled(device, _enrolled(user, actor))


def verify(user: User, code: str, *, ip: str = "", login: Login | None = None) -> None:
    """Use one code of the app, or one recovery code, up. Unauthenticated ``invalid_code``, RateLimited.

    An app's code works once, of any number of callers at once for one of them. ``ip`` is whose tries of recovery codes
    are counted, ``login`` the open login that shows the factor again.
    """
    plain = code.strip().lower().replace("-", "").replace(" ", "")
    app = _APP_CODE.fullmatch(plain) is not None
    if app:
        _spend(user, str(login.public_id) if login else "login")
    else:
        place = str(login.public_id) if login else network_of(ip)
        spend(RECOVERY_BUDGET, "recovery-code", str(user.public_id), place)
    with transaction.atomic():
        ok = _verify_app(user, plain) if app else _verify_recovery(user, plain)
    if not ok:
        raise _wrong()


def step_up(user: User, login: Login, code: str, *, actor: Actor) -> None:
    """Show the second factor again for an open login; see ``accounts.stepup``. A wrong code is audited: whoever has
    somebody's session and guesses should be seen."""
    try:
        verify(user, code, login=login)
    except Unauthenticated:
        with transaction.atomic():
            record("login.verify", actor=actor, target=target_of(user), outcome="denied")
        raise
    with transaction.atomic():
        Login.objects.filter(pk=login.pk).update(verified_at=clock.now())
        record("login.verify", actor=actor, target=target_of(user))


def new_recovery_codes(user: User, *, actor: Actor) -> list[str]:
    """Ten new recovery codes; the old ones are dead. Conflict ``not_enrolled``."""
    with transaction.atomic():
        if not User.objects.select_for_update().filter(pk=user.pk).exclude(second_factor_at=None).exists():
            raise Conflict("No second factor is enrolled.", type="not_enrolled")
        codes = _make_recovery_codes(user)
        record("second_factor.codes", actor=actor, target=target_of(user))
    return codes


def codes_left(user: User) -> int:
    """How many recovery codes are unused."""
    return sum(device.token_set.count() for device in StaticDevice.objects.filter(user=user, name=RECOVERY))


def remove(user: User, *, actor: Actor) -> None:
    """Ask this user for no second factor any more. Conflict ``not_enrolled``."""
    with transaction.atomic():
        if User.objects.filter(pk=user.pk).exclude(second_factor_at=None).update(second_factor_at=None) != 1:
            raise Conflict("No second factor is enrolled.", type="not_enrolled")
        AppDevice.objects.filter(user=user).delete()
        StaticDevice.objects.filter(user=user, name=RECOVERY).delete()
        logins.void_all(user)
        record("second_factor.remove", actor=actor, target=target_of(user))


def _enrolled(user: User, actor: Actor) -> list[str]:
    User.objects.filter(pk=user.pk).update(second_factor_at=clock.now())
    codes = _make_recovery_codes(user)
    logins.void_all(user)
    user.refresh_from_db()
    record("second_factor.enrol", actor=actor, target=target_of(user))
    return codes


def _refuse_enrolled(user: User) -> None:
    if User.objects.select_for_update().filter(pk=user.pk).exclude(second_factor_at=None).exists():
        raise Conflict("A second factor is enrolled already.", type="already_enrolled")


def _verify_app(user: User, code: str) -> bool:
    device = AppDevice.objects.select_for_update().filter(user=user, confirmed=True).first()
    return device is not None and bool(device.verify_token(code))


def _verify_recovery(user: User, code: str) -> bool:
    """Deleting the row is using the code: one of several at once deletes it."""
    if not _RECOVERY_CODE.fullmatch(code):
        return False
    for device in StaticDevice.objects.filter(user=user, name=RECOVERY, confirmed=True):
        if device.token_set.filter(token=_recovery_hash(user, code)).delete()[0] == 1:
            return True
    return False


def _make_recovery_codes(user: User) -> list[str]:
    """``abcde-fghij``: 50 random bits each."""
    StaticDevice.objects.filter(user=user, name=RECOVERY).delete()
    device = StaticDevice.objects.create(user=user, name=RECOVERY, confirmed=True)
    codes = [
        "".join(secrets.choice("abcdefghijklmnopqrstuvwxyz234567") for _ in range(10)) for _ in range(RECOVERY_CODES)
    ]
    _store(device, user, codes)
    return [f"{code[:5]}-{code[5:]}" for code in codes]


def _store(device: StaticDevice, user: User, codes: Iterable[str]) -> None:
    for code in codes:
        remember(code)
        remember(f"{code[:5]}-{code[5:]}")
        device.token_set.create(token=_recovery_hash(user, code))


def _recovery_hash(user: User, code: str) -> str:
    """As much of the keyed hash as django-otp's column holds: 64 bits, under a key that the database does not have."""
    return keyed_hash("recovery-code", str(user.public_id), code).hex()[:16]


def _spend(user: User, place: str) -> None:
    for budget in BUDGETS:
        spend(budget, "second-factor", str(user.public_id), place)


def _wrong() -> Unauthenticated:
    return Unauthenticated("This code is wrong, used or too old.", type="invalid_code")
