"""Accounts as an audit row names them."""

from __future__ import annotations

from accounts.models import User
from audit.services import Target


def target_of(user: User) -> Target:
    """The user as the thing that was acted on."""
    return Target("user", str(user.public_id), user.email)
