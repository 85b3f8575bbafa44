"""Lists for people: a page begins behind the last row of the one before. Nothing is counted."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any
from urllib.parse import urlencode

from django.http import HttpRequest

SIZE = 50


@dataclass(frozen=True)
class Rows:
    """``next`` is the query string of the following page; empty on the last one."""

    items: list[Any]
    next: str
    first: bool

    def __iter__(self) -> Any:
        return iter(self.items)

    def __len__(self) -> int:
        return len(self.items)


def page_of(rows: Any, request: HttpRequest, *, key: str, descending: bool = False, size: int = SIZE) -> Rows:
    """The page that ``?after=`` asks for. ``key`` is a unique column; a value of ``after`` that is none of it is the
    beginning."""
    after = _typed(rows, key, request.GET.get("after", "")[:100])
    if after is not None:
        rows = rows.filter(**{f"{key}__{'lt' if descending else 'gt'}": after})
    found = list(rows.order_by(f"-{key}" if descending else key)[: size + 1])
    more = ""
    if len(found) > size:
        kept = {name: value for name, value in request.GET.items() if name != "after"}
        more = urlencode({**kept, "after": getattr(found[size - 1], key)})
    return Rows(found[:size], more, after is None)


def _typed(rows: Any, key: str, value: str) -> Any:
    if not value or "\0" in value:
        return None
    if key == "slug":
        return value
    return int(value) if value.isascii() and value.isdigit() and len(value) < 19 else None
