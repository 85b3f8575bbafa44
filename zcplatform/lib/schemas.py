"""What every schema of the API shares: unknown fields are refused, texts are bounded, and what goes out is listed."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any, Generic, TypeVar

from ninja import Schema
from pydantic import AfterValidator, ConfigDict, Field, StringConstraints

from zcplatform.lib.errors import InvalidField
from zcplatform.lib.text import check_text

MAX_TEXT = 4_096
MAX_PAGE = 200

Item = TypeVar("Item")


def _one_line(value: str) -> str:
    try:
        return check_text(value, field="", max_length=MAX_TEXT)
    except InvalidField as error:
        raise ValueError(error.message) from error


Line = Annotated[str, StringConstraints(max_length=200), AfterValidator(_one_line)]
"""A short text that a person typed: no control characters, no line breaks."""
Id = Annotated[str, StringConstraints(max_length=64)]
"""A public id as it stands in a body; one that is no UUID is an id that does not exist."""


class In(Schema):
    """What comes in: unknown fields and overlong texts are refused with 422."""

    model_config = ConfigDict(extra="forbid", str_max_length=MAX_TEXT)


class Out(Schema):
    """What goes out: exactly the fields that the schema lists."""


class Page(Out, Generic[Item]):
    """One page of a list. ``next_cursor`` is null on the last one."""

    items: list[Item]
    next_cursor: str | None = Field(None, description="Send it as `cursor` to get the next page.")


class PageQuery(In):
    """Where a page begins and how long it is."""

    limit: int = Field(50, ge=1, description=f"Items on the page; more than {MAX_PAGE} is taken as {MAX_PAGE}.")
    cursor: str | None = Field(None, max_length=500, description="The `next_cursor` of the page before.")
    order: str | None = Field(None, max_length=40, description="Field to sort by; with “-” in front, descending.")


class ErrorBody(Out):
    """What went wrong. `type` is stable; `message` is for people; `details` depends on the type."""

    type: str = Field(examples=["not_found"])
    message: str = Field(examples=["Not found."])
    details: dict[str, Any] = Field(examples=[{}])
    request_id: str = Field(examples=["8f14e45fceea167a5a36dedd4bea2543"])


class Error(Out):
    """The envelope of every error."""

    error: ErrorBody


Moment = datetime
"""A time of day in UTC, as ISO 8601."""
