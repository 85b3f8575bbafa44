"""How much of a limit is used, as a bar with its numbers."""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Decimal

from django.utils.formats import number_format
from django.utils.translation import gettext as _
from django.utils.translation import ngettext

from tenants.quotas import Quota

WARN, FULL = 80, 100
"""Percent of a limit from which a bar is amber, and red."""


@dataclass(frozen=True)
class Bar:
    """``percent`` is None when nothing was measured: then the bar is empty and says so."""

    label: str
    used: str
    limit: str
    percent: int | None

    @property
    def width(self) -> int:
        """Of the drawing, 0 to 100."""
        return min(self.percent or 0, 100)

    @property
    def level(self) -> str:
        percent = self.percent or 0
        return "full" if percent >= FULL else "warn" if percent >= WARN else "ok"


def bar(label: str, used: float | None, limit: float, unit: str = "") -> Bar:
    """``used`` of ``limit`` in the same unit."""
    percent = None if used is None or not limit else round(used * 100 / limit)
    tail = f" {unit}" if unit else ""
    return Bar(label, "" if used is None else f"{short(used)}{tail}", f"{short(limit)}{tail}", percent)


def bar_of(quota: Quota) -> Bar:
    """Messages of today, or tokens of this month."""
    return bar(quota_label(quota.name), quota.used if quota.known else None, quota.limit)


def quota_label(name: str) -> str:
    """What a quota is called; its bare name where it has no label."""
    labels = {"messages": _("Messages today"), "tokens": _("Tokens this month"), "disk": _("Disk")}
    return labels.get(name, name)


def cores(number: float | Decimal) -> str:
    """``1 core``, ``0.25 cores``."""
    told = number_format(f"{float(number):g}")
    return ngettext("%(number)s core", "%(number)s cores", 1 if number == 1 else 2) % {"number": told}


def short(number: float) -> str:
    """``212``, ``9.4 k``, ``1.2 M``: three figures are enough to compare."""
    for size, letter in ((1e9, "G"), (1e6, "M"), (1e4, "k")):
        if number >= size:
            value = number / (1e3 if letter == "k" else size)
            return f"{value:.1f}".rstrip("0").rstrip(".") + f" {letter}"
    return f"{number:,.0f}".replace(",", " ")


def size(octets: float) -> str:
    """Bytes in the unit that leaves three figures: ``141 MB``, ``1.2 GB``. 1 MB is 1,048,576 bytes."""
    for step, unit in ((2**30, "GB"), (2**20, "MB"), (2**10, "kB")):
        if octets >= step:
            value = octets / step
            return f"{value:.1f} {unit}" if value < 10 else f"{value:,.0f} {unit}".replace(",", " ")
    return f"{octets:.0f} B"
