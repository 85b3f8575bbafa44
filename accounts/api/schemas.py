"""What the accounts' routes take and give."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Literal
from uuid import UUID

from pydantic import Field, StringConstraints

from accounts.api_keys import MAX_DAYS
from zcplatform.lib.schemas import In, Line, Out, PageQuery

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


class MeOut(Out):
    """Who calls, and with what."""

    user: UserOut
    credential: Literal["session", "token", "key"]
    abilities: list[str] | None = Field(
        None, description="What the scopes of the API key in use reach; null: everything that the user may."
    )


Email = Annotated[str, StringConstraints(min_length=3, max_length=1_016)]
Code = Annotated[str, StringConstraints(min_length=1, max_length=32)]
Handle = Annotated[str, StringConstraints(min_length=1, max_length=100)]
Token = Annotated[str, StringConstraints(min_length=1, max_length=2_000)]


class CodeRequestIn(In):
    """Where to send the code."""

    email: Email = Field(examples=["dana@example.com"])
    handle: Handle | None = Field(None, description="Of the answer before: that code is dead then.")


class CodeRequestOut(Out):
    """The same for every address."""

    message: str
    expires_in: int = Field(description="Seconds that a code works.")
    handle: str = Field(description="Whom the code is for: send it with the code. It alone opens nothing.")


class CodeIn(In):
    """The address and the code that was sent to it."""

    email: Email = Field(examples=["dana@example.com"])
    code: Code = Field(description="6 or 12 ASCII digits, as they were sent.", examples=["042917"])
    handle: Handle | None = Field(None, description="What `otp/request` answered; without it the network counts.")


class SecondFactorIn(In):
    """The second step of a login."""

    token: Token = Field(description="The `second_factor_token` of the first step.")
    code: Code = Field(description="6 digits of the authenticator app, or a recovery code.")


class StepUpIn(In):
    """The second factor, shown again."""

    code: Code = Field(description="6 digits of the authenticator app, or a recovery code.")


class RefreshIn(In):
    """An unused refresh token."""

    refresh_token: Token


class TokensOut(Out):
    """Either the two tokens, or what the second step needs: then the others are null."""

    access_token: str | None = None
    refresh_token: str | None = Field(None, description="Good for one exchange; a second use ends the session.")
    token_type: Literal["Bearer"] = "Bearer"  # noqa: S105
    expires_in: int | None = Field(None, description="Seconds that the access token works.")
    second_factor_token: str | None = Field(None, description="Send it with a code to `auth/totp/verify`.")


class UserIn(In):
    """A new account."""

    email: Email
    name: Line = ""
    is_superuser: bool = False


class UserChange(In):
    """What to change; what is absent stays."""

    name: Annotated[Line, StringConstraints(max_length=100)] | None = None
    is_active: bool | None = None
    is_superuser: bool | None = None


class UserQuery(PageQuery):
    """Which accounts to list."""

    search: Line | None = Field(None, description="Part of the address or name.")
    is_active: bool | None = None
    is_superuser: bool | None = None


class RoleOut(Out):
    """A role and what it may do."""

    name: str
    label: str
    abilities: list[str]
    built_in: bool


class RoleIn(In):
    """A new custom role."""

    name: Annotated[str, StringConstraints(pattern=r"^[a-z0-9][a-z0-9-]{0,38}[a-z0-9]$", max_length=40)]
    label: Line = Field(min_length=1, max_length=80)
    abilities: list[Annotated[str, StringConstraints(max_length=40)]] = Field(max_length=100)


class RoleChange(In):
    """What to change; what is absent stays."""

    label: Annotated[Line, StringConstraints(min_length=1, max_length=80)] | None = None
    abilities: list[Annotated[str, StringConstraints(max_length=40)]] | None = Field(None, max_length=100)
