"""Race-free slots: the port and uid of a tenant on its node, given in one IMMEDIATE transaction under UNIQUE."""

from __future__ import annotations

from datetime import timedelta

from django.db import transaction

from tenants.models import Node, QuarantinedPort, Tenant
from tenants.states import Reason
from zcplatform.lib import clock
from zcplatform.lib.errors import RunFailed

QUARANTINE = timedelta(hours=1)


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
    held = list(node.tenants.filter(slot__isnull=False).values_list("slot", "port", "uid"))
    slots, ports, uids = ({row[i] for row in held} for i in range(3))
    ports |= set(node.quarantined_ports.filter(until__gt=clock.now()).values_list("port", flat=True))
    for slot in range(node.capacity):
        port, uid = node.port_first + slot, node.uid_first + slot
        # Ranges may have been moved since older tenants got theirs, so all three are looked at.
        if slot not in slots and port not in ports and uid not in uids:
            return slot, port, uid
    raise RunFailed(f"Node {node.name} has no free slot: all {node.capacity} are taken.", type=Reason.NO_CAPACITY)


def quarantine(tenant: Tenant) -> None:
    """Give back the tenant's slot and hand its port to nobody for an hour: something that is not ours holds it."""
    with transaction.atomic():
        QuarantinedPort.objects.update_or_create(
            node=tenant.node, port=tenant.port or 0, defaults={"until": clock.now() + QUARANTINE}
        )
        release(tenant)


def release(tenant: Tenant) -> None:
    """Free the slot; only when nothing uses the port and the uid any more."""
    Tenant.objects.filter(pk=tenant.pk).update(slot=None, port=None, uid=None)
    tenant.slot = tenant.port = tenant.uid = None
