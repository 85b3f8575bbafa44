"""What there is to hand out: plans and nodes, changed by super-admins and operators only."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from decimal import Decimal
from typing import Any

from django.db import IntegrityError, transaction

from audit.services import Target, record
from tenants.access import deny
from tenants.models import Node, Plan
from zcplatform.lib.actors import Actor
from zcplatform.lib.errors import Conflict, Forbidden, InvalidField
from zcplatform.lib.text import check_text

_SLUG = re.compile(r"[a-z0-9]+(?:-[a-z0-9]+)*")
# Above these the engine or the database would refuse, or the number is a slip of the finger.
PLAN_LIMITS: dict[str, int | Decimal] = {
    "max_channels": 1_000,
    "max_members": 100_000,
    "max_messages_per_day": 1_000_000_000,
    "max_tokens_per_month": 1_000_000_000_000_000,
    "cpu_limit": Decimal("1024"),
    "memory_limit_mb": 4_194_304,
    "pids_limit": 4_194_304,
    "disk_limit_mb": 1_073_741_824,
}
LEAST_CPU = Decimal("0.01")


def create_plan(*, actor: Actor, slug: str, name: str, limits: Mapping[str, Any]) -> Plan:
    """Add a plan; every limit is needed. InvalidField naming the field, Conflict ``slug_taken``, Forbidden."""
    _require_operator(actor)
    if not _SLUG.fullmatch(slug) or len(slug) > 40:
        raise InvalidField("A plan's slug is made of a-z, 0-9 and single hyphens.", field="slug")
    missing = PLAN_LIMITS.keys() - limits.keys()
    if missing:
        raise InvalidField("This limit is missing.", field=min(missing))
    checked = _check_limits(limits)
    name = check_text(name, field="name", max_length=80, required=True)
    try:
        with transaction.atomic():
            plan = Plan.objects.create(slug=slug, name=name, **checked)
            record("plan.create", actor=actor, target=_of_plan(plan), detail={"name": name, **checked})
    except IntegrityError as error:
        raise Conflict(f"There is a plan “{slug}” already.", type="slug_taken", field="slug") from error
    return plan


def update_plan(*, actor: Actor, plan: Plan, name: str | None = None, limits: Mapping[str, Any] | None = None) -> Plan:
    """Change a plan's name or some limits; its tenants get them at their next start. InvalidField, Forbidden."""
    _require_operator(actor)
    changes: dict[str, Any] = _check_limits(limits or {})
    if name is not None:
        changes["name"] = check_text(name, field="name", max_length=80, required=True)
    with transaction.atomic():
        row = Plan.objects.select_for_update().get(pk=plan.pk)
        changed = {key: [getattr(row, key), value] for key, value in changes.items() if getattr(row, key) != value}
        for key, value in changes.items():
            setattr(row, key, value)
        row.save(update_fields=list(changes) or None)
        if changed:
            record("plan.update", actor=actor, target=_of_plan(row), detail={"changed": changed})
    return row


def set_node_state(*, actor: Actor, node: Node, state: str) -> Node:
    """Active, draining (no new tenants) or disabled (not looked after either). InvalidField, Forbidden."""
    _require_operator(actor)
    if state not in Node.State.values:
        raise InvalidField(f"There is no state “{state}”.", field="state")
    with transaction.atomic():
        row = Node.objects.select_for_update().get(pk=node.pk)
        before, row.state = row.state, state
        row.save(update_fields=["state"])
        if before != state:
            detail = {"from": before, "to": state}
            record("node.update", actor=actor, target=Target("node", str(row.pk), row.name), detail=detail)
    return row


def _require_operator(actor: Actor) -> None:
    if not (actor.unrestricted and actor.reaches("platform.admin")):
        deny(Forbidden("Only a super-admin may change plans and nodes."), actor=actor, ability="capacity.update")


def _check_limits(limits: Mapping[str, Any]) -> dict[str, Any]:
    """Docker reads 0 as "unlimited", so nothing below one unit (of CPU: a hundredth of a core) gets through."""
    unknown = limits.keys() - PLAN_LIMITS.keys()
    if unknown:
        raise InvalidField("There is no such limit.", field=min(unknown))
    return {name: _check_limit(name, value) for name, value in limits.items()}


def _check_limit(name: str, value: Any) -> int | Decimal:
    highest = PLAN_LIMITS[name]
    lowest = LEAST_CPU if name == "cpu_limit" else 1
    kinds = int | Decimal if name == "cpu_limit" else int
    if isinstance(value, bool) or not isinstance(value, kinds) or not math.isfinite(value):
        raise InvalidField("A number is expected.", field=name)
    if not lowest <= value <= highest or value % lowest:
        raise InvalidField(f"The number must be between {lowest} and {highest}, in steps of {lowest}.", field=name)
    return value


def _of_plan(plan: Plan) -> Target:
    return Target("plan", plan.slug, plan.name)
