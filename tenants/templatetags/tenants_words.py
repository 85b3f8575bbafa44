"""Times and sizes in words, the same in every template."""

from __future__ import annotations

from datetime import datetime

from django import template

from tenants import words
from tenants.pages import bars

register = template.Library()


register.filter("cores", bars.cores)


@register.filter
def ago(moment: datetime | None) -> str:
    """ "3 days ago", "just now"; empty for no time at all."""
    return words.ago(moment) if moment else ""
