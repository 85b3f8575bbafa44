"""``audit_verify``: walk the hash chain and name the first bad row."""

from __future__ import annotations

import argparse
import json
from argparse import ArgumentParser
from dataclasses import asdict
from pathlib import Path
from typing import Any

from django.core.management.base import CommandError

from audit.archiving import verify_export
from audit.chain import Head
from audit.services import verify_chain
from zcplatform.lib.commands import PlatformCommand
from zcplatform.lib.text import counted


def _head(text: str) -> Head:
    try:
        return Head.parse(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from error


class Command(PlatformCommand):
    help = "Check the audit's hash chain. Exit code 0: intact; 1: the first bad row is named; 2: wrong arguments."

    def add_arguments(self, parser: ArgumentParser) -> None:
        super().add_arguments(parser)
        parser.add_argument(
            "--head", type=_head, metavar="ID:HASH", help="a head printed earlier and kept elsewhere; finds a cut tail"
        )

        parser.add_argument("--export", type=Path, metavar="FILE", help="check an export of audit_archive instead")

    def run(self, **options: Any) -> None:
        known = None
        if options["export"]:
            verdict, known = verify_export(options["export"])
        else:
            verdict = verify_chain(options["head"])
        fault = verdict.fault
        if options["json"]:
            report = {"ok": fault is None, "count": verdict.count, "head": str(verdict.head)}
            report |= {} if known is None else {"known": known}
            self.stdout.write(json.dumps({**report, "fault": asdict(fault) if fault else None}))
        else:
            whose = (
                "" if known is None else ", exported from this database" if known else ", not known to this database"
            )
            self.stdout.write(f"{counted(verdict.count, 'row')} intact, head {verdict.head}{whose}")
        if fault:
            raise CommandError(f"{fault.message} ({fault.kind})", returncode=1)
