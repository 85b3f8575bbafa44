"""``extra_config``: bounded as a whole first, then checked against the kind's own fields."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from math import isfinite
from typing import Any

from tenants.fields import Field, clean_all
from zcplatform.lib.errors import InvalidField

MAX_DEPTH = 8
MAX_BYTES = 32 * 1024
FIELD = "extra_config"


def parse(text: str) -> dict[str, Any]:
    """A JSON text as an object; InvalidField for a duplicate key, NaN, an infinite number, or what is too large."""
    if len(text.encode("utf-8", "surrogatepass")) > MAX_BYTES:
        raise InvalidField("At most 32 KB are allowed.", field=FIELD)
    try:
        value = json.loads(text, object_pairs_hook=_without_duplicates, parse_constant=_refuse_constant)
    except (ValueError, RecursionError):
        raise InvalidField("This is not valid JSON.", field=FIELD) from None
    check_bounds(value)
    return value


def check(
    extra: Mapping[str, Any], fields: Iterable[Field], groups: Mapping[str, Iterable[Field]] | None = None
) -> dict[str, Any]:
    """``extra`` with every key known: ``fields`` at the top, ``groups`` one level below. Otherwise InvalidField."""
    check_bounds(extra)
    groups = groups or {}
    cleaned = clean_all(fields, {name: value for name, value in extra.items() if name not in groups})
    for name in groups.keys() & extra.keys():
        if not isinstance(extra[name], dict):
            raise InvalidField("An object is expected.", field=name)
        cleaned[name] = clean_all(groups[name], extra[name])
    return cleaned


def check_bounds(value: Any) -> None:
    """InvalidField unless ``value`` is a JSON object of depth 8 and 32 KB at most, with finite numbers."""
    if not isinstance(value, dict):
        raise InvalidField("An object is expected.", field=FIELD)
    _check_level(value, MAX_DEPTH)
    if len(json.dumps(value)) > MAX_BYTES:
        raise InvalidField("At most 32 KB are allowed.", field=FIELD)


def _check_level(value: Any, levels: int) -> None:
    if levels < 0:
        raise InvalidField("This is nested too deeply: 8 levels are allowed.", field=FIELD)
    if isinstance(value, float) and not isfinite(value):
        raise InvalidField("Numbers must be finite.", field=FIELD)
    if isinstance(value, dict):
        if not all(isinstance(key, str) for key in value):
            raise InvalidField("Keys must be texts.", field=FIELD)
        value = list(value.values())
    elif not isinstance(value, str | int | float | bool | list | None):
        raise InvalidField("Only JSON values are allowed.", field=FIELD)
    if isinstance(value, list):
        for item in value:
            _check_level(item, levels - 1)


def _without_duplicates(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    value = dict(pairs)
    if len(value) != len(pairs):
        raise ValueError("duplicate key")
    return value


def _refuse_constant(name: str) -> None:
    raise ValueError(name)
