"""How the last check of the audit's chain ended, for the admin's list."""

from __future__ import annotations

from django import template

from monitoring.audit_check import JOB
from tenants.records import JobResult

register = template.Library()


@register.simple_tag
def audit_state() -> JobResult | None:
    return JobResult.objects.filter(name=JOB).order_by("-at").first()
