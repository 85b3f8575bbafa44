"""What can be done with notifiers. Their secrets go into the vault and never come out but to be used."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from django.db import transaction
from django_q.tasks import async_task

from accounts.rates import spend
from audit.services import Target
from monitoring.alerting import agreements
from monitoring.alerting.deliver import send_test
from monitoring.alerting.models import Delivery, Notifier, Severity
from monitoring.alerting.notifiers import is_hidden, notifier_kind, origin_of, secret_field
from monitoring.alerting.notifiers.base import NotifierKind
from monitoring.alerting.ownership import require, written
from tenants.fields import clean_all
from tenants.models import Tenant
from tenants.states import Status
from vault import services as vault
from zcplatform.lib import clock
from zcplatform.lib.actors import SYSTEM, Actor
from zcplatform.lib.errors import Conflict, InvalidField, NotFound
from zcplatform.lib.redact import SecretStr
from zcplatform.lib.text import check_text

MAX_NOTIFIERS = 10
"""Of one tenant: each may keep a thread of the sender busy."""
TESTS, TESTS_BY_ONE = "10/minute", "20/minute"
PURPOSE = "notifier"
PLATFORM = "platform"
MAIL = "mail"


@dataclass(frozen=True)
class Made:
    """``secret`` is set when one was made for the user, who sees it once."""

    notifier: Notifier
    secret: SecretStr | None


def create_notifier(
    *,
    actor: Actor,
    tenant: Tenant | None,
    kind: str,
    name: str,
    config: Mapping[str, Any],
    min_severity: str = Severity.WARNING,
) -> Made:
    """Make a notifier of a kind in ``settings.NOTIFIERS``; ``config`` holds its fields, the secret one included.

    InvalidField naming the field; Conflict ``too_many_notifiers``.
    """
    require(actor, tenant)
    spoken = notifier_kind(kind)
    plain, secret = _taken_apart(spoken, config)
    made = spoken.make_secret() if secret is None else None
    notifier = Notifier(tenant=tenant, kind=kind, name=_name(name), config=plain, min_severity=_severity(min_severity))
    with transaction.atomic():
        if tenant is not None:
            Tenant.objects.select_for_update().get(pk=tenant.pk)
            if tenant.notifiers.count() >= MAX_NOTIFIERS:
                raise Conflict(f"A tenant has at most {MAX_NOTIFIERS} notifiers.", type="too_many_notifiers")
        _store_secret(notifier, secret or made, actor)
        notifier.save(force_insert=True)
        _ask_recipients(notifier, actor)
        written("notifier.create", actor, tenant, target_of(notifier), kind=kind)
    return Made(notifier, made)


def update_notifier(*, actor: Actor, notifier: Notifier, changes: Mapping[str, Any]) -> Notifier:
    """Change ``name``, ``min_severity``, ``enabled`` or fields of ``config``, those given alone; a secret that is not
    given stays, but another address hides it, and the notifier is off until it is entered again. InvalidField; NotFound
    when it is gone."""
    require(actor, notifier.tenant)
    spoken = notifier_kind(notifier.kind)
    plain, secret = _taken_apart(spoken, changes.get("config", {}), partial=True)
    with transaction.atomic():
        row = _locked(notifier)
        row.config = {name: value for name, value in {**row.config, **plain}.items() if value is not None}
        _apply(row, changes)
        if secret is not None:
            _store_secret(row, secret, actor)
        _stop_if_hidden(row, wanted=changes.get("enabled") is True)
        row.updated_at = clock.now()
        row.save()
        _ask_recipients(row, actor)
        fields = sorted({*changes} - {"config"} | {*plain} | ({"secret"} if secret else set()))
        written("notifier.update", actor, row.tenant, target_of(row), fields=fields)
    return row


def delete_notifier(*, actor: Actor, notifier: Notifier) -> None:
    """Delete a notifier with its secret, its queue and its log."""
    require(actor, notifier.tenant)
    with transaction.atomic():
        row = _locked(notifier)
        _remove(row, actor)


def test_notifier(*, actor: Actor, notifier: Notifier) -> Delivery:
    """Send a test message at once; what came of it is in the delivery. At most ten a minute for a tenant, and
    twenty by one user (RateLimited). Recipients by mail who have not agreed are asked again, once a day.

    Calls the network: not inside a transaction.
    """
    require(actor, notifier.tenant)
    if actor.user_id is not None:
        spend(TESTS_BY_ONE, "notifier-tester", str(actor.user_id))
    spend(TESTS, "notifier-test", str(notifier.tenant.public_id) if notifier.tenant else PLATFORM)
    with transaction.atomic():
        _ask_recipients(notifier, actor)
    delivery = send_test(notifier)
    outcome = "ok" if delivery.state == Delivery.State.SENT else "failed"
    with transaction.atomic():
        written("notifier.test", actor, notifier.tenant, target_of(notifier), outcome=outcome, error=delivery.error)
    return delivery


def forget_deleted_tenants() -> int:
    """Remove the notifiers of deleted tenants with their secrets; returns how many went."""
    rows = list(Notifier.objects.filter(tenant__status=Status.DELETED).select_related("tenant", "secret"))
    for row in rows:
        with transaction.atomic():
            _remove(row, SYSTEM)
    return len(rows)


def target_of(notifier: Notifier) -> Target:
    """The notifier as an audit row names it."""
    return Target("notifier", str(notifier.public_id), notifier.name)


def _ask_recipients(row: Notifier, actor: Actor) -> None:
    """Nobody is told by mail who did not agree; the question goes out when the transaction is through."""
    if row.kind == MAIL:
        agreements.want(actor=actor, tenant=row.tenant, addresses=row.config["to"])
        transaction.on_commit(_wake)


def _wake() -> None:
    async_task("monitoring.tasks.ask_recipients", cluster="sweeps", save=False)


def _remove(row: Notifier, actor: Actor) -> None:
    target, secret = target_of(row), row.secret
    row.delete()
    if secret is not None:
        vault.delete([secret], actor=actor)
    written("notifier.delete", actor, row.tenant, target)


def _taken_apart(
    kind: NotifierKind, config: Mapping[str, Any], *, partial: bool = False
) -> tuple[dict[str, Any], SecretStr | None]:
    """The plain fields, and the secret one."""
    values = clean_all(kind.fields, config, partial=partial)
    if not partial or values:
        kind.check(values)
    hidden = secret_field(kind)
    secret = values.pop(hidden.name, None) if hidden else None
    return values, secret


def _apply(row: Notifier, changes: Mapping[str, Any]) -> None:
    for name, value in changes.items():
        if name == "name":
            row.name = _name(value)
        elif name == "min_severity":
            row.min_severity = _severity(value)
        elif name == "enabled" and isinstance(value, bool):
            row.enabled = value
        elif name != "config":
            raise InvalidField("There is no such field, or true or false is expected.", field=name)


def _store_secret(notifier: Notifier, value: SecretStr | None, actor: Actor) -> None:
    if value is None:
        return
    former = notifier.secret
    if former is not None and not is_hidden(notifier):
        vault.replace(former, value, actor=actor)
        return
    hidden = secret_field(notifier_kind(notifier.kind))
    owner = str(notifier.tenant.public_id) if notifier.tenant else PLATFORM
    field, origin = hidden.name if hidden else "", origin_of(notifier)
    notifier.secret = vault.put(purpose=PURPOSE, owner=owner, field=field, value=value, actor=actor, origin=origin)
    if former is not None:
        notifier.save(update_fields=["secret"])
        vault.delete([former], actor=actor)


def _stop_if_hidden(notifier: Notifier, *, wanted: bool) -> None:
    if not is_hidden(notifier):
        return
    hidden = secret_field(notifier_kind(notifier.kind))
    if wanted:
        message = "This was entered for another address; enter it again before the notifier can be on."
        raise InvalidField(message, field=hidden.name if hidden else "secret")
    notifier.enabled = False


def _locked(notifier: Notifier) -> Notifier:
    row = Notifier.objects.select_for_update(of=("self",)).select_related("tenant", "secret")
    found = row.filter(pk=notifier.pk).first()
    if found is None:
        raise NotFound()
    return found


def _name(value: Any) -> str:
    return check_text(value, field="name", max_length=80, required=True)


def _severity(value: Any) -> str:
    if value not in Severity.values:
        raise InvalidField(f"One of {', '.join(Severity.values)} is expected.", field="min_severity")
    return value
