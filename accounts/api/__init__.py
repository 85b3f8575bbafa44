"""The accounts' part of the JSON API."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ninja import NinjaAPI


def mount(api: NinjaAPI) -> None:
    """Add the routes of this app."""
    from accounts.api import login, me, users

    api.add_router("/auth", login.router)
    api.add_router("/users/me", me.router)
    api.add_router("/admin", users.router)
