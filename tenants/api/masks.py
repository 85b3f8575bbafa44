"""Secrets as they are shown: that there is one, and at most how it ends."""

from __future__ import annotations

from tenants.models import TenantSecret

DOTS = "••••"


def mask(tie: TenantSecret) -> str:
    """Dots, and of a long secret its last four characters."""
    return DOTS + tie.secret.hint
