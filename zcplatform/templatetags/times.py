"""Times of day in templates. In every one, without a ``load``."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from django import template
from django.template.defaultfilters import date

register = template.Library()


@register.filter
def utc(moment: Any, form: str) -> str:
    """As Django's ``date`` does, but in UTC, whatever zone is in force. The template says "UTC" beside it."""
    return date(moment.astimezone(UTC) if isinstance(moment, datetime) else moment, form)
