"""Race-free slots: the port and uid of a tenant on its node, given in one IMMEDIATE transaction under UNIQUE."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from datetime import timedelta

import structlog
from django.db import transaction

from tenants.models import Node, QuarantinedPort, Tenant
from tenants.states import Reason
from zcplatform.lib import clock, ports
from zcplatform.lib.errors import RunFailed

QUARANTINE = timedelta(hours=1)
SHARE = 20
"""One port in so many is set aside at most."""
log = structlog.get_logger(__name__)


def allocate(tenant: Tenant) -> Tenant:
    """Give the tenant the lowest free slot of its node, or keep the one it has. RunFailed ``no_capacity``.

    Must not be called with a stale row: it reads the tenant again.
    """
    with transaction.atomic():
        # On PostgreSQL the row lock serialises allocations of one node; on SQLite the transaction already does.
        node = Node.objects.select_for_update().get(pk=tenant.node_id)
        tenant = Tenant.objects.select_for_update().get(pk=tenant.pk)
        if tenant.slot is not None:
            return tenant
        tenant.slot, tenant.port, tenant.uid = _first_free(node)
        tenant.save(update_fields=["slot", "port", "uid"])
    return tenant


def _first_free(node: Node) -> tuple[int, int, int]:
    passed: list[int] = []
    for slot, port, uid in _ours_to_give(node):
        if not is_here(node) or ports.is_free(port):
            _look_at(node, passed)
            return slot, port, uid
        passed.append(port)
    others = f"; {len(passed)} of their ports are held by something else" if passed else ""
    raise RunFailed(
        f"Node {node.name} has no free slot: all {node.capacity} are taken{others}.", type=Reason.NO_CAPACITY
    )


def _ours_to_give(node: Node) -> Iterator[tuple[int, int, int]]:
    """Slots that no tenant has and that are not set aside, with their ports and uids."""
    held = list(node.tenants.filter(slot__isnull=False).values_list("slot", "port", "uid"))
    slots, taken, uids = ({row[i] for row in held} for i in range(3))
    taken |= set(node.quarantined_ports.filter(until__gt=clock.now()).values_list("port", flat=True))
    for slot in range(node.capacity):
        port, uid = node.port_first + slot, node.uid_first + slot
        # Ranges may have been moved since older tenants got theirs, so all three are looked at.
        if slot not in slots and port not in taken and uid not in uids:
            yield slot, port, uid


def _look_at(node: Node, passed: list[int]) -> None:
    """Set aside what a stranger listens at. A port that an agent holds, or somebody who can't be seen, is passed over
    for as long as that is so and not longer: no agent can make the range smaller than what it holds."""
    if not passed:
        return
    listeners = ports.listeners()
    for port in passed:
        if (uids := listeners.get(port)) and not agents_among(uids):
            _set_aside(node, port)
    log.warning("ports_held", node=node.name, ports=len(passed), first=passed[0])


def is_here(node: Node) -> bool:
    """Whether the ports of the node's agents are this host's own."""
    return node.address in ("127.0.0.1", "::1", "localhost")


def agents_among(uids: Iterable[int]) -> set[int]:
    """Those of ``uids`` that are an agent's, or were: they lie in the range of a node."""
    ranges = [range(first, last + 1) for first, last in Node.objects.values_list("uid_first", "uid_last")]
    return {uid for uid in uids if any(uid in known for known in ranges)}


def quarantine(tenant: Tenant) -> None:
    """Give back the tenant's slot, whose port was taken after it had been given, and hand that port to nobody for an
    hour; unless it is an agent that listens there, which is seen the next time."""
    node, port = tenant.node, tenant.port or 0
    with transaction.atomic():
        if not (is_here(node) and agents_among(ports.listeners().get(port, ()))):
            _set_aside(node, port)
        release(tenant)


def _set_aside(node: Node, port: int) -> None:
    """At most a small share of the range: then what was set aside first is tried again."""
    until = clock.now() + QUARANTINE
    QuarantinedPort.objects.update_or_create(node=node, port=port, defaults={"until": until})
    most = max(1, node.capacity // SHARE)
    kept = list(node.quarantined_ports.order_by("-until", "-pk").values_list("pk", flat=True)[:most])
    node.quarantined_ports.exclude(pk__in=kept).delete()


def release(tenant: Tenant) -> None:
    """Free the slot; only when nothing uses the port and the uid any more."""
    Tenant.objects.filter(pk=tenant.pk).update(slot=None, port=None, uid=None)
    tenant.slot = tenant.port = tenant.uid = None
