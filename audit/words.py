"""A row of the audit for people: who, about what, and how, without ids and machine forms. The export has the whole."""

from __future__ import annotations

import json
import re
from typing import Any

from django.utils.translation import gettext as _

from audit.models import AuditEntry
from zcplatform.lib.redact import MASK

LONGEST = 200
_ID = re.compile(r"[0-9a-f]{8}-?(?:[0-9a-f]{4}-?){3}[0-9a-f]{12}")
_MOMENT = re.compile(r"(\d{4}-\d\d-\d\d)T(\d\d:\d\d)[\d:.]*(?:\+00:00|Z)")
_SIGNS = {"gt": ">", "ge": "≥", "lt": "<", "le": "≤"}


def who(entry: AuditEntry) -> str:
    """A user's e-mail; ``operator`` for somebody with a shell on the host; else the platform itself."""
    return entry.actor_email or (entry.actor_id if entry.actor_id == "operator" else _("the platform"))


def subject(entry: AuditEntry) -> str:
    """What the row is about: ``Memory is short``, ``channel bot token``; empty where nothing but an id is known."""
    name = entry.resource_name
    if entry.resource_type == "secret":
        name = name.removeprefix("tenant/").replace("_", " ")
    return " ".join(re.sub(rf":?{_ID.pattern}/?", " ", name).split())


def detail(entry: AuditEntry) -> str:
    """The row's detail in one line; what is nested, masked or an id is left out."""
    parts = [(name, _plain(value)) for name, value in json.loads(entry.detail_json).items()]
    return ", ".join(_pair(name, text) for name, text in parts if text)[:LONGEST]


def _pair(name: str, text: str) -> str:
    if name.endswith("_s"):  # a time in seconds says so by its name
        return f"{name[:-2].replace('_', ' ')}: {text} s"
    return f"{name.replace('_', ' ')}: {text}"


def _plain(value: Any) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int | float):
        return f"{value:g}" if isinstance(value, float) else str(value)
    if not isinstance(value, str) or value == MASK or _ID.fullmatch(value):
        return ""
    if moment := _MOMENT.fullmatch(value):
        return f"{moment[1]} {moment[2]} UTC"
    return _SIGNS.get(value, value)
