"""Who does something: a user, an operator at the command line, or the platform itself."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Actor:
    """``user_id`` is None for the platform and for an operator with a shell on the host.

    ``email`` and ``label`` are what the audit keeps, so that a row outlives the account it names.
    """

    label: str
    user_id: int | None = None
    public_id: str = ""
    email: str = ""
    unrestricted: bool = False
    ip: str = ""
    request_id: str = ""


SYSTEM = Actor(label="system", unrestricted=True)
OPERATOR = Actor(label="operator", unrestricted=True)
