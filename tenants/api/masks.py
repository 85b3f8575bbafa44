"""Secrets as they are shown: that there is one, and at most how it ends."""

from __future__ import annotations

from django.db.models import QuerySet

from tenants.models import TenantSecret

DOTS = "••••"


def masked(ties: QuerySet[TenantSecret]) -> dict[str, str]:
    """Field name to mask."""
    return {tie.field: mask(tie) for tie in ties.select_related("secret")}


def mask(tie: TenantSecret) -> str:
    """Dots, and of a long secret its last four characters."""
    return DOTS + tie.secret.hint
