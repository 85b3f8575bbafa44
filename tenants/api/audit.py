"""A tenant's audit trail."""

from __future__ import annotations

import json
from datetime import datetime
from typing import Any, Literal
from uuid import UUID

from django.http import HttpRequest
from ninja import Query, Router
from pydantic import Field

from audit.models import AuditEntry
from tenants.api.common import find
from zcplatform.lib.apidocs import about
from zcplatform.lib.paging import paginate
from zcplatform.lib.schemas import Line, Out, Page, PageQuery

router = Router(tags=["audit"])


class AuditQuery(PageQuery):
    """Which entries."""

    action: Line | None = Field(None, max_length=64, examples=["tenant.deploy"])
    outcome: Literal["ok", "denied", "failed"] | None = None


class AuditOut(Out):
    """One act, or one refused attempt."""

    id: int
    created_at: datetime
    action: str
    outcome: str
    actor_id: str
    actor_email: str
    resource_type: str
    resource_id: str
    resource_name: str
    request_id: str
    detail: dict[str, Any]

    @staticmethod
    def resolve_detail(entry: AuditEntry) -> Any:
        return json.loads(entry.detail_json)


@router.get("/{tenant_id}/audit", response=Page[AuditOut], summary="A tenant's audit trail", openapi_extra=about(404))
def list_audit(request: HttpRequest, tenant_id: UUID, query: Query[AuditQuery]) -> Any:
    """What was done to the tenant and what was refused. Newest first. Sorted by `id`."""
    tenant = find(request, tenant_id, "audit.read")
    rows = AuditEntry.objects.filter(tenant_id=str(tenant.public_id))
    rows = rows.filter(action=query.action) if query.action is not None else rows
    rows = rows.filter(outcome=query.outcome) if query.outcome else rows
    return paginate(rows, query, orders={"id": "id"}, default="-id", tie="id")
