"""Run the benches one after the other, in an installation of their own that is removed at the end."""

from __future__ import annotations

import argparse
import os
from importlib import import_module

from tests.bench import Skipped, table

BENCHES = ("provision", "fleet", "caddy", "monitoring", "api", "backup", "pages", "recovery")


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.bench", description=__doc__)
    parser.add_argument("--only", choices=BENCHES, help="one bench instead of all")
    only = parser.parse_args().only
    os.environ["DJANGO_SETTINGS_MODULE"] = "tests.settings"
    import django

    django.setup()
    for name in [only] if only else BENCHES:
        print(f"\n{name}", flush=True)
        try:
            print(table(import_module(f"tests.bench.{name}").run()), flush=True)
        except Skipped as reason:
            print(f"skipped: {reason}")


if __name__ == "__main__":
    main()
