"""What every management command of the platform shares: errors in one line, exit codes, ``--json``."""

from __future__ import annotations

import json
import sys
from argparse import ArgumentParser
from pathlib import Path
from typing import Any, ClassVar, NoReturn

from django.core import checks
from django.core.management.base import BaseCommand, CommandError
from django.db import OperationalError, ProgrammingError

from zcplatform.lib.actors import OPERATOR
from zcplatform.lib.errors import Misconfigured, ZCError
from zcplatform.lib.redact import handling
from zcplatform.lib.terminal import SafeStreams, forget_typed, visible_json


class SafeCommand(SafeStreams, BaseCommand):  # type: ignore[misc]  # attributes there, properties here
    """A command whose output is harmless to a terminal: the base of all of ours."""


class PlatformCommand(SafeCommand):
    """Maps the platform's errors to one line on stderr and an exit code, and prints ``--json``.

    Exit codes: 0 done, 1 refused or failed, 2 wrong usage, 130 interrupted; ``exit_codes`` has others by error type.
    """

    actor = OPERATOR
    exit_codes: ClassVar[dict[str, int]] = {}
    # What is wrong with the code itself is for ``check`` and ``serve`` to find: looking through models, addresses and
    # admin takes longer than most commands.
    requires_system_checks: list[str] | tuple[str, ...] = ("zcplatform",)

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("--json", action="store_true", help="print one JSON object")

    def execute(self, *args: Any, **options: Any) -> Any:
        try:
            with handling():
                return super().execute(*args, **options)
        except Misconfigured as error:  # of ``check``; ``handle`` maps its own
            self._refuse(error.type, error.message, error.details, error, as_json=bool(options.get("json")))

    def check(self, **options: Any) -> None:  # type: ignore[override]
        """Django's check before a command, in the platform's words: Misconfigured instead of a block of text."""
        found = [message for message in checks.run_checks(**options) if not message.is_silenced()]
        if serious := [message for message in found if message.is_serious()]:
            raise Misconfigured("\n".join(map(_in_words, serious)), checks=[message.id for message in serious])
        for message in found:
            self.stderr.write(_in_words(message))

    def handle(self, *args: Any, **options: Any) -> None:
        try:
            ok = self.run(**options)
        except ZCError as error:
            self._refuse(error.type, error.message, error.details, error, as_json=bool(options.get("json")))
        except (OperationalError, ProgrammingError) as error:
            fault = _database_fault(error)
            self._refuse(*fault, {}, error, as_json=bool(options.get("json")))
        except KeyboardInterrupt as error:
            self.stderr.write(str(error) or "Interrupted.")
            sys.exit(130)
        if ok is False:
            sys.exit(1)

    def _refuse(self, kind: str, message: str, details: dict[str, Any], cause: Exception, *, as_json: bool) -> NoReturn:
        code = self.exit_codes.get(kind, 1)
        if as_json:
            self.print_json({"error": {"type": kind, "message": message, "details": details}})
            sys.exit(code)
        field = f"{details['field']}: " if "field" in details else ""
        raise CommandError(field + message, returncode=code) from cause

    def run(self, **options: Any) -> bool | None:
        """Do it; False means that it was tried and failed."""
        raise NotImplementedError

    def print_json(self, value: Any) -> None:
        self.stdout.write(visible_json(json.dumps(value, indent=2, default=str, ensure_ascii=False)))

    def write_file(self, path: Path, text: str) -> None:
        """Write what ``--output`` asks for; CommandError when the file can't be written."""
        try:
            path.write_text(text)
        except OSError as error:
            raise CommandError(f"{path}: {error.strerror}", returncode=1) from error

    def confirm(self, question: str, answer: str, *, yes: bool) -> None:
        """Ask for ``answer`` to be typed, unless ``--yes``; CommandError when it is not. Only what is typed at a
        terminal after the question counts: the next line of a pasted block answers nothing."""
        if yes:
            return
        if not sys.stdin.isatty():
            raise CommandError("This asks for a confirmation; use --yes where nobody can answer.", returncode=2)
        forget_typed(sys.stdin)
        self.stdout.write(question)
        try:
            typed = input("> ").strip()
        except EOFError:
            typed = ""
        if typed != answer:
            raise CommandError("Not confirmed; nothing was changed.", returncode=1)


def _in_words(message: checks.CheckMessage) -> str:
    return " ".join(filter(None, (message.msg, message.hint, f"({message.id})")))


def _database_fault(error: Exception) -> tuple[str, str]:
    """Type and words for a database that does not do as it should."""
    text = str(error).lower()
    if "locked" in text or "busy" in text:
        return "database_busy", "The database is busy: something holds it for long. Nothing was changed; try again."
    if "full" in text or "disk i/o" in text:
        return "storage_full", f"The database can't be written, probably for want of space on the disk: {error}."
    return (
        "database_unavailable",
        f"The database can't be used: {error}. A new installation needs: zcplatform bootstrap; "
        "one whose database is lost: zcplatform restore",
    )
