"""``manage.py roles``: the permission matrix."""

from __future__ import annotations

from argparse import ArgumentParser
from collections.abc import Mapping
from typing import Any

from accounts.permissions import ABILITIES, BEYOND_TENANTS, ROLES, SCOPES
from zcplatform.lib.commands import PlatformCommand


class Command(PlatformCommand):
    help = "Print which built-in role may do what in a tenant, as a Markdown table or as JSON."
    requires_system_checks = ()

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("--scopes", action="store_true", help="print what the scopes of API keys reach instead")
        super().add_arguments(parser)

    def run(self, **options: Any) -> None:
        columns = SCOPES if options["scopes"] else ROLES
        if options["json"]:
            self.print_json({name: sorted(abilities) for name, abilities in columns.items()})
        elif options["scopes"]:
            self.stdout.write(table(ABILITIES | BEYOND_TENANTS, SCOPES))
        else:
            self.stdout.write(matrix())


def matrix() -> str:
    """The matrix as a Markdown table; super-admins have their own column since they have everything."""
    return table(ABILITIES, {**ROLES, "super-admin": frozenset(ABILITIES)})


def table(abilities: Mapping[str, str], columns: Mapping[str, frozenset[str]]) -> str:
    """Which column has which ability, in Markdown."""
    head = ["Ability", "", *columns]
    rows = [head, ["---", "---", *[":-:"] * len(columns)]]
    for name, text in abilities.items():
        rows.append([f"`{name}`", text, *("yes" if name in column else "" for column in columns.values())])
    return "\n".join("| " + " | ".join(row) + " |" for row in rows)
