"""``manage.py roles``: the permission matrix."""

from __future__ import annotations

import json
from argparse import ArgumentParser
from typing import Any

from django.core.management.base import BaseCommand

from accounts.permissions import ABILITIES, ROLES


class Command(BaseCommand):
    help = "Print which built-in role may do what in a tenant, as a Markdown table or as JSON."
    requires_system_checks = ()

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("--json", action="store_true", help="print JSON instead of a table")

    def handle(self, *args: Any, **options: Any) -> None:
        if options["json"]:
            self.stdout.write(json.dumps({role: sorted(abilities) for role, abilities in ROLES.items()}, indent=2))
        else:
            self.stdout.write(matrix())


def matrix() -> str:
    """The matrix as a Markdown table; super-admins have their own column since they have everything."""
    head = ["Ability", "", *ROLES, "super-admin"]
    rows = [head, ["---", "---", *[":-:"] * (len(ROLES) + 1)]]
    for name, text in ABILITIES.items():
        marks = ["yes" if name in abilities else "" for abilities in ROLES.values()]
        rows.append([f"`{name}`", text, *marks, "yes"])
    return "\n".join("| " + " | ".join(row) + " |" for row in rows)
