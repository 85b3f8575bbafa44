"""Looks at an unpacked backup as the platform itself would: a process whose home it is. ``python -m backups.staged``
reads an order from stdin and prints one JSON object. The settings are read when a process starts, so only another
process can have another home."""

from __future__ import annotations

import json
import sys
from typing import Any

import django
from django.core.exceptions import ImproperlyConfigured

from zcplatform.lib.errors import ZCError


def main() -> None:
    """Order: ``rows`` and ``environment`` of the manifest, ``note`` for the audit or null. Never raises."""
    order = json.load(sys.stdin)
    try:
        django.setup()
        from backups import examining

        told: dict[str, Any] = {"ok": examining.examine(order)}
    except ZCError as error:
        told = {"error": {"type": error.type, "message": error.message}}
    except ImproperlyConfigured as error:
        told = {"error": {"type": "archive_settings", "message": f"With this configuration nothing starts: {error}"}}
    print(json.dumps(told))  # noqa: T201


if __name__ == "__main__":
    main()
