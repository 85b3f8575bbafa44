"""What a program of ours has loaded and holds open once it is set up, as JSON: ``python -m tests.zcplatform.loaded``;
with ``web`` once the web's application is loaded, with ``checks`` once the admin was checked."""

from __future__ import annotations

import json
import os
import sys
import threading

HEAVY = ("aiohttp", "docker", "httpx", "ninja", "tenants.admin", "zcplatform.urls")


def held_open() -> list[str]:
    """What the process's files are, but for its own three: devices and pipes of the caller."""
    files = [os.readlink(f"/proc/self/fd/{number}") for number in os.listdir("/proc/self/fd") if int(number) > 2
             and os.path.exists(f"/proc/self/fd/{number}")]  # fmt: skip
    return [name for name in files if name.startswith("socket:") or ".db" in name]


def main(what: str) -> None:
    import django

    django.setup()
    if what == "web":
        import zcplatform.asgi  # noqa: F401
    if what == "checks":
        from django.core import checks

        checks.run_checks(tags=[checks.Tags.admin])
    from django.apps import apps
    from django.contrib import admin
    from django.db import connections

    loaded = [name for name in HEAVY if name in sys.modules]
    told = {
        "heavy": loaded,
        "models": sorted(model._meta.label for model in apps.get_models()),
        "threads": [thread.name for thread in threading.enumerate()],
        "connected": [each.alias for each in connections.all() if each.connection is not None],
        "open": held_open(),
        "shown": sorted(model.__name__ for model in admin.site._registry) if "tenants.admin" in loaded else [],
    }
    print(json.dumps(told))


if __name__ == "__main__":
    main((sys.argv[1:] or [""])[0])
