"""Run the benches one after the other, each in an installation of its own that is removed at the end."""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
from importlib import import_module

from tests.bench import SHORT, Skipped, table

BENCHES = ("provision", "fleet", "caddy", "monitoring", "api", "backup", "pages", "recovery")
# What would lead a bench to the rows of another one.
HOMES = ("ZC_TEST_WORKER", "ZC_TEST_SLOT", "ZC_TEST_HOME", "ZC_TEST_RUN", "ZCPLATFORM_HOME", "ZCPLATFORM_CONFIG")


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.bench", description=__doc__)
    parser.add_argument(
        "--only", choices=BENCHES, action="append", help="this bench instead of all; may be given again"
    )
    parser.add_argument("--short", action="store_true", help="so small that the figures say nothing: does it all run?")
    options = parser.parse_args()
    names = options.only or list(BENCHES)
    if len(names) == 1 and options.short == SHORT:
        _play(names[0])
        return 0
    failed = [name for name in names if _of_its_own(name, short=options.short or SHORT) != 0]
    print(f"\nfailed: {', '.join(failed)}" if failed else f"\nall {len(names)} ran", flush=True)
    return 1 if failed else 0


def _of_its_own(name: str, *, short: bool) -> int:
    """The exit code of one bench in a process, a home and a database of its own."""
    env = {key: value for key, value in os.environ.items() if key not in HOMES}
    if env.get("ZCPLATFORM_DATABASE_URL", "").startswith("sqlite:"):
        del env["ZCPLATFORM_DATABASE_URL"]
    argv = [sys.executable, "-m", "tests.bench", "--only", name, *(["--short"] if short else [])]
    return subprocess.run(argv, env=env | {"ZC_BENCH_SHORT": str(int(short))}).returncode


def _play(name: str) -> None:
    os.environ["DJANGO_SETTINGS_MODULE"] = "tests.settings"
    import django

    django.setup()
    print(f"\n{name}", flush=True)
    try:
        print(table(import_module(f"tests.bench.{name}").run()), flush=True)
    except Skipped as reason:
        print(f"skipped: {reason}")


if __name__ == "__main__":
    sys.exit(main())
