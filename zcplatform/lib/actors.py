"""Who does something: a user, an operator at the command line, or the platform itself."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Actor:
    """``user_id`` is None for the platform and for an operator with a shell on the host.

    ``email`` and ``label`` are what the audit keeps, so that a row outlives the account it names. ``limit`` holds the
    abilities to which the credential in use is confined, such as an API key's scopes; None: to none. Whether the
    user has an ability is another question, and both answers must be yes, also for an ``unrestricted`` actor.
    """

    label: str
    user_id: int | None = None
    public_id: str = ""
    email: str = ""
    unrestricted: bool = False
    ip: str = ""
    request_id: str = ""
    limit: frozenset[str] | None = None
    reason: str = ""  # why a super-admin acts in a tenant, in their own words

    def reaches(self, ability: str) -> bool:
        """Whether the credential in use extends to ``ability``."""
        return self.limit is None or ability in self.limit


SYSTEM = Actor(label="system", unrestricted=True)
OPERATOR = Actor(label="operator", unrestricted=True)
