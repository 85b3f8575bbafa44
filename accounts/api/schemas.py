"""What the accounts' routes take and give."""

from __future__ import annotations

from datetime import datetime
from typing import Literal
from uuid import UUID

from pydantic import Field

from accounts.api_keys import MAX_DAYS
from zcplatform.lib.schemas import In, Line, Out

Scope = Literal["read", "write", "admin"]


class UserOut(Out):
    """An account."""

    id: UUID = Field(alias="public_id")
    email: str = Field(examples=["dana@example.com"])
    name: str
    is_active: bool
    is_superuser: bool = Field(description="Whether this is a super-admin, who may do everything.")
    second_factor_at: datetime | None = Field(None, description="Since when a second factor is asked for.")
    last_login: datetime | None = None
    created_at: datetime


class ApiKeyOut(Out):
    """An API key without its value."""

    id: UUID = Field(alias="public_id")
    name: str
    prefix: str = Field(description="How the value begins.", examples=["zck_mC3x9aQ0"])
    scopes: list[str]
    created_at: datetime
    expires_at: datetime
    last_used_at: datetime | None = Field(None, description="Exact to a minute.")


class ApiKeyMade(ApiKeyOut):
    """A new API key. `key` is shown this once."""

    key: str = Field(description="The value. It can't be had again.")


class ApiKeyIn(In):
    """What the new key is for and how far it reaches."""

    name: Line = Field(min_length=1, max_length=80)
    scopes: list[Scope] = Field(min_length=1, max_length=3)
    expires_in_days: int = Field(90, ge=1, le=MAX_DAYS)


class LoginOut(Out):
    """One way in that is open."""

    id: UUID = Field(alias="public_id")
    kind: Literal["browser", "api"]
    ip: str | None = None
    user_agent: str
    created_at: datetime
    last_used_at: datetime = Field(description="Exact to a minute.")
    expires_at: datetime
    current: bool = Field(description="Whether this request came by it.")
