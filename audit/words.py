"""A row of the audit for people: who, about what, and how, without ids and machine forms. The export has the whole."""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Iterable, Iterator, Mapping
from datetime import datetime
from itertools import groupby
from types import MappingProxyType
from typing import Any

from django.utils.translation import gettext as _

from audit.models import AuditEntry
from zcplatform.lib import clock
from zcplatform.lib.redact import MASK

LONGEST = 200
LABELS = (
    *("ability", "agent", "argv", "by", "cause", "changed", "comparison", "count", "days", "email", "enabled", "error"),
    *("expires at", "fields", "hold", "host", "hosts", "kind", "metric", "mode", "name", "note", "ok", "plan", "port"),
    *("provider", "reason", "repeat", "revoked", "role", "rule", "severity", "threshold", "type", "until", "used at"),
    *("what", "why"),
)
"""What details are called on a tenant's page; another name is told as it is."""
ROUTINE = {"action": "secret.read", "actor_id": "system", "outcome": "ok"}
"""The columns of what the platform does by itself all day: told in one line where it stands in a row."""
Names = Mapping[str, Mapping[str, str]]
_ID = re.compile(r"[0-9a-f]{8}-?(?:[0-9a-f]{4}-?){3}[0-9a-f]{12}")
_WORD = re.compile(r"[a-z]+_[a-z_]+")
_MACHINE = frozenset({"ability", "cause", "error", "hold", "kind", "metric", "mode", "reason", "type", "what", "why"})
"""Details whose values are words of the platform's own; a name that somebody chose is told as it is."""
_MOMENT = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d[\d:.]*(?:[+-]\d\d:\d\d|Z)")
_SIGNS = {"gt": ">", "ge": "≥", "lt": "<", "le": "≤"}


def who(entry: AuditEntry) -> str:
    """A user's e-mail; ``operator`` for somebody with a shell on the host; else the platform itself."""
    return entry.actor_email or (entry.actor_id if entry.actor_id == "operator" else _("the platform"))


def is_routine(entry: AuditEntry) -> bool:
    return all(getattr(entry, column) == value for column, value in ROUTINE.items())


def together(rows: Iterable[AuditEntry]) -> Iterator[tuple[AuditEntry, int]]:
    """Each row with 1; of routine ones that follow on each other the first alone, with how many they are."""
    for routine, group in groupby(rows, key=is_routine):
        found = list(group)
        yield from [(found[0], len(found))] if routine else ((entry, 1) for entry in found)


def subject(entry: AuditEntry) -> str:
    """What the row is about: ``Memory is short``, ``channel bot token``; empty where nothing but an id is known."""
    name = entry.resource_name
    if entry.resource_type == "secret":
        name = name.removeprefix("tenant/").replace("_", " ")
    return " ".join(re.sub(rf":?{_ID.pattern}/?", " ", name).split())


def detail(entry: AuditEntry, names: Names = MappingProxyType({})) -> str:
    """The row's detail in one line; what is nested, masked or an id is left out. ``names`` has the labels of values
    that a program reads, by the detail's name."""
    given = json.loads(entry.detail_json).items()
    parts = [(name, _told(name, value, names.get(name, {}))) for name, value in given]
    return ", ".join(_pair(name, text) for name, text in parts if text)[:LONGEST]


def _told(name: str, value: Any, labels: Mapping[str, str]) -> str:
    if name == "argv" and isinstance(value, list):  # as it was run: whoever reads it wants to know what was done
        return shlex.join(map(str, value))
    if label := _named(value, labels):
        return label
    if name in _MACHINE and isinstance(value, str) and _WORD.fullmatch(value):
        return value.replace("_pct", " %").replace("_", " ")
    return _plain(value)


def _named(value: Any, labels: Mapping[str, str]) -> str:
    label = labels.get(value, "") if isinstance(value, str) and value else ""
    return _(label) if label else ""  # the empty text is the catalogue's own head


def _pair(name: str, text: str) -> str:
    if name.endswith("_s"):  # a time in seconds says so by its name
        name, text = name[:-2], f"{text} s"
    return f"{_(name.replace('_', ' '))}: {text}"


def _plain(value: Any) -> str:
    if isinstance(value, bool):
        return _("yes") if value else _("no")
    if isinstance(value, list):
        return " ".join(text for item in value if not _ID.search(str(item)) and (text := _plain(item)))
    if isinstance(value, int | float):
        return f"{value:g}" if isinstance(value, float) else str(value)
    if not isinstance(value, str) or value == MASK or _ID.fullmatch(value):
        return ""
    if _MOMENT.fullmatch(value):
        return clock.in_words(datetime.fromisoformat(value), clock.MINUTE)
    return _SIGNS.get(value, value)
