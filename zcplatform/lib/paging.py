"""Lists by cursor: a page begins after the last row of the page before, so nothing is skipped or shown twice."""

from __future__ import annotations

import base64
import binascii
import json
from collections.abc import Mapping
from typing import Any

from django.core.exceptions import FieldDoesNotExist, ValidationError
from django.core.serializers.json import DjangoJSONEncoder
from django.db.models import Q, QuerySet

from zcplatform.lib.errors import InvalidField
from zcplatform.lib.schemas import MAX_PAGE, PageQuery


def paginate(
    rows: QuerySet[Any], query: PageQuery, *, orders: Mapping[str, str], default: str, tie: str = "public_id"
) -> dict[str, Any]:
    """``items`` and ``next_cursor`` of one page of ``rows``.

    ``orders`` maps the names that a caller may sort by to columns that are never null; ``tie`` is a unique column that
    may be seen outside, since a cursor holds the values of the last row. InvalidField ``invalid_order`` for another
    name, ``invalid_cursor`` for a cursor that is not one of this list and order.
    """
    order = query.order or default
    column, descending = _column(order, orders), order.startswith("-")
    limit = min(query.limit, MAX_PAGE)
    if query.cursor:
        rows = rows.filter(_after(rows, query.cursor, order, column, tie))
    sign = "-" if descending else ""
    found = list(rows.order_by(f"{sign}{column}", f"{sign}{tie}")[: limit + 1])
    more = len(found) > limit
    return {"items": found[:limit], "next_cursor": _cursor(found[limit - 1], order, column, tie) if more else None}


def _column(order: str, orders: Mapping[str, str]) -> str:
    column = orders.get(order.removeprefix("-"))
    if column is None:
        message = f"This list can be sorted by {', '.join(sorted(orders))}."
        raise InvalidField(message, type="invalid_order", field="order")
    return column


def _cursor(row: Any, order: str, column: str, tie: str) -> str:
    """Opaque to callers, which leaves us free to change it."""
    values = [order, _value(row, column), _value(row, tie)]
    return base64.urlsafe_b64encode(json.dumps(values, cls=DjangoJSONEncoder).encode()).decode().rstrip("=")


def _value(row: Any, column: str) -> Any:
    value = row
    for part in column.split("__"):
        value = getattr(value, part)
    # JSON would cut a moment's microseconds down to milliseconds, and the next page would begin too early.
    return value.isoformat() if hasattr(value, "isoformat") else value


def _after(rows: QuerySet[Any], cursor: str, order: str, column: str, tie: str) -> Q:
    """The rows behind the cursor. Its values go through the columns' own types: a forged one is refused."""
    try:
        made_for, at, last = json.loads(base64.urlsafe_b64decode(cursor + "=" * (-len(cursor) % 4)))
        if made_for != order:
            raise ValueError(made_for)
        at, last = _typed(rows.model, column, at), _typed(rows.model, tie, last)
    except (ValueError, TypeError, binascii.Error, ValidationError, FieldDoesNotExist) as error:
        message = "This cursor does not belong to this list in this order."
        raise InvalidField(message, type="invalid_cursor", field="cursor") from error
    beyond = "lt" if order.startswith("-") else "gt"
    return Q(**{f"{column}__{beyond}": at}) | Q(**{column: at, f"{tie}__{beyond}": last})


def _typed(model: Any, column: str, value: Any) -> Any:
    *path, name = column.split("__")
    for part in path:
        model = model._meta.get_field(part).related_model
    if not isinstance(value, str | int):
        raise ValueError(value)
    if isinstance(value, str) and "\0" in value:
        raise ValueError(value)
    return model._meta.get_field(name).to_python(value)
