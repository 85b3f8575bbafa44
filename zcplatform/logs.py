"""Logs: JSON lines with the request id, or a console form; both scrubbed of secrets, safe against forged lines
and cut at 8 KB a line.

structlog's events and the records of the standard library take the same way, so a library that logs a secret
is scrubbed like we are. The values of local variables are never shown.
"""

from __future__ import annotations

import json
import logging
import re
import sys
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import structlog
from structlog.processors import StackInfoRenderer, TimeStamper, format_exc_info
from structlog.stdlib import ProcessorFormatter
from structlog.types import EventDict

from zcplatform.lib.redact import MASK, censor, in_hand, scrub

MAX_LINE = 8 * 1024
MAX_READ = 64 * 1024  # of one value; what stands behind it is not even looked at
# Whose loggers bear the name of a package of ours gives beside a message what is meant for the line; what libraries
# attach (whole requests) stays out.
OUR_PACKAGES = frozenset({"zcplatform", "audit", "accounts", "vault", "tenants", "backups", "monitoring"})
# Whose secret looks like one of these must not make it disappear: it is how a line is found. Nobody's text is in them.
_OURS = {"timestamp", "level", "logger", "event", "request", "request_id", "user_id", "ip", "status", "sweep", "what"}
_OURS |= {"run", "epoch", "step", "tenant", "slug", "node", "type"}
_ALWAYS = ("timestamp", "level", "logger", "request_id", "event", "exception")

# Credentials by their shape, for those that stand in a text and that nobody has remembered as a secret.
_SHAPES = [
    (re.compile(r"\b(bearer|basic)\s+[\w.~+/=:-]{8,}", re.IGNORECASE), rf"\1 {MASK}"),
    (re.compile(r"(/login/)[\w-]{20,}"), rf"\1{MASK}"),
    (re.compile(r"(://)[^\s/@:]{0,100}:[^\s/@]{1,200}@"), rf"\1{MASK}@"),
    (
        re.compile(
            r"\b((?:[a-z]{1,20}[_-])?(?:password|passphrase|secret|token|api[_-]?key|pepper|otp))"
            r"([\"']?\s{0,2}[=:]\s{0,2}[\"']?)[^\s\"'&,;}]{4,}",
            re.IGNORECASE,
        ),
        rf"\1\2{MASK}",
    ),
    (re.compile(r"\b(?:sk|gsk|xai|ghp|gho|xox[abp])[-_][\w-]{16,}"), MASK),
    (re.compile(r"\b\d{6,12}:[\w-]{30,}"), MASK),  # a Telegram bot
]
# Line breaks of every kind, escape sequences and marks that turn the reading direction round.
_UNSAFE = re.compile("[\x00-\x08\x0a-\x1f\x7f-\x9f\u2028\u2029\u200e\u200f\u202a-\u202e\u2066-\u2069]")


def logging_config(*, level: str, form: str) -> dict[str, Any]:
    """Django's ``LOGGING`` for ``form`` ``json`` or ``console``; structlog is set up to match."""
    structlog.configure(
        processors=[
            structlog.stdlib.filter_by_level,
            *_COLLECT,
            structlog.stdlib.PositionalArgumentsFormatter(),
            ProcessorFormatter.wrap_for_formatter,
        ],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.stdlib.BoundLogger,
        cache_logger_on_first_use=True,
    )
    render = _render_json if form == "json" else _render_console
    formatter = {
        "()": ProcessorFormatter,
        "foreign_pre_chain": _COLLECT,
        "pass_foreign_args": True,
        "processors": [ProcessorFormatter.remove_processors_meta, _finish(render)],
    }
    return {
        "version": 1,
        "disable_existing_loggers": False,
        "formatters": {"line": formatter},
        "handlers": {"stderr": {"class": "zcplatform.logs.Handler", "formatter": "line"}},
        "root": {"handlers": ["stderr"], "level": level},
        "loggers": {
            "django": {"handlers": [], "level": level, "propagate": True},
            # These repeat what ``request_finished`` and ``request_failed`` say.
            "django.request": {"level": "CRITICAL"},
            "django.security.DisallowedHost": {"level": "CRITICAL"},
            "django.server": {"handlers": [], "level": "WARNING", "propagate": True},
            "uvicorn.access": {"level": "WARNING"},
            # Three lines for every task, and a beat is one every few seconds.
            "django-q": {"level": "WARNING"},
            # httpx logs whole URLs at INFO, and some services carry their token in the path.
            "httpx": {"level": "WARNING"},
        },
    }


class Handler(logging.StreamHandler):
    """Writes to stderr. A record that can't be formatted is named, its arguments are not."""

    def handleError(self, record: logging.LogRecord) -> None:
        where = f"{record.module}:{record.lineno}"
        line = {"level": "error", "event": "log_failed", "logger": record.name, "where": where}
        with suppress(OSError, ValueError):  # a full disk behind stderr, or none: a line is not worth the work
            print(json.dumps(line), file=sys.stderr)  # noqa: T201


def scrub_shapes(text: str) -> str:
    """``text`` without what looks like a credential."""
    for shape, replacement in _SHAPES:
        text = shape.sub(replacement, text)
    return text


def _extras(logger: Any, method: str, event: EventDict) -> EventDict:
    """What one of our modules has given beside its message: all of it, so that no caller has to be known here."""
    record = event.get("_record")
    ours = record is not None and record.name.partition(".")[0] in OUR_PACKAGES
    return _every_extra(logger, method, event) if ours else event


def _status_not_code(_logger: Any, _method: str, event: EventDict) -> EventDict:
    """django-structlog calls the status ``code``, which is the name of a secret here (login codes)."""
    if str(event.get("event")).startswith("request_") and isinstance(event.get("code"), int):
        event["status"] = event.pop("code")
    return event


def _finish(render: Callable[[EventDict], str]) -> Callable[[Any, str, EventDict], str]:
    def finish(_logger: Any, _method: str, event: EventDict) -> str:
        return _fit(_scrubbed(event), render)

    return finish


def _scrubbed(event: EventDict) -> EventDict:
    """Without what the platform knows everywhere; and where the text may be somebody's, without the secrets that the
    work in whose course it is logged has in hand. A message of ours is ours, less what was put into it."""
    ours = _OURS - {"event"} if event.pop("positional_args", None) else _OURS
    clean = censor({key: _cut(value) for key, value in event.items()})
    clean |= {key: _each_text(value, _without_secrets_in_hand) for key, value in clean.items() if key not in ours}
    return {key: _each_text(value, scrub_shapes) for key, value in clean.items()}


def _without_secrets_in_hand(text: str) -> str:
    return scrub(text, in_hand())


def _cut(value: Any) -> Any:
    if isinstance(value, bytes | bytearray):
        value = bytes(value[:MAX_READ]).decode(errors="replace")
    if value is None or isinstance(value, bool | int | float | dict | list | tuple | set | frozenset):
        return value
    return value[:MAX_READ] if isinstance(value, str) else value if _hides_itself(value) else str(value)[:MAX_READ]


def _hides_itself(value: Any) -> bool:
    return hasattr(value, "reveal")  # SecretStr: censor masks it


def _each_text(value: Any, change: Callable[[str], str]) -> Any:
    if isinstance(value, str):
        return change(value[:MAX_READ])
    if isinstance(value, dict):
        return {change(key): _each_text(item, change) for key, item in value.items()}
    if isinstance(value, list):
        return [_each_text(item, change) for item in value]
    return value


def _fit(event: EventDict, render: Callable[[EventDict], str]) -> str:
    """The line, with less and less of each value until it is at most MAX_LINE bytes."""
    line = render(event)
    for limit in (2048, 512, 256):
        if len(line.encode()) <= MAX_LINE:
            break
        keep = event if limit > 256 else {key: event[key] for key in _ALWAYS if key in event}
        line = render({**{key: _shortened(value, limit) for key, value in keep.items()}, "truncated": True})
    return line


def _shortened(value: Any, limit: int) -> Any:
    """Beginning and end: a traceback's last line says most."""
    if value is None or isinstance(value, bool | int | float):
        return value
    text = str(value)
    return text if len(text) <= limit else f"{text[: limit // 2]} [...] {text[-limit // 2 :]}"


def _render_json(event: EventDict) -> str:
    return json.dumps(event)  # ASCII only: nothing in it can move a terminal's cursor


def _render_console(event: EventDict) -> str:
    tracebacks = [event.pop(key) for key in ("exception", "stack") if key in event]
    head = [str(event.pop(key, "")) for key in ("timestamp", "level", "event")]
    rest = [f"{key}={value if isinstance(value, str) else json.dumps(value)}" for key, value in event.items()]
    line = _escaped(" ".join([head[0], f"{head[1]:<8}", head[2], *rest]))
    indented = ["    " + _escaped(part) for text in tracebacks for part in str(text).split("\n")]
    return "\n".join([line, *indented])


def _escaped(text: str) -> str:
    return _UNSAFE.sub(lambda match: match.group().encode("unicode_escape").decode(), text)


_every_extra = structlog.stdlib.ExtraAdder()
_COLLECT: list[Any] = [
    structlog.contextvars.merge_contextvars,
    structlog.stdlib.add_logger_name,
    structlog.stdlib.add_log_level,
    _extras,
    TimeStamper(fmt="iso", utc=True),
    StackInfoRenderer(),
    format_exc_info,
    _status_not_code,
]
