"""What sends a tenant's address to its agent. ``router()`` gives the configured driver."""

from __future__ import annotations

from functools import cache

from django.conf import settings
from django.utils.module_loading import import_string

from tenants.routing.base import Router


def router() -> Router:
    """The driver that ``settings.ROUTER`` names; one object per process, which holds no state."""
    return _driver(settings.ROUTERS[settings.ROUTER])


@cache
def _driver(path: str) -> Router:
    driver: Router = import_string(path)()
    return driver
