"""``make chaos [SEED=n] [STEPS=n]``: the random machine for long, on processes, a real engine where one answers, and a
small disk where we may mount one. Prints the seed, what was done, and how long the slowest recovery took."""

from __future__ import annotations

import argparse
import os
import time
from contextlib import ExitStack


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.faults.chaos", description=__doc__)
    parser.add_argument("--seed", type=int, default=int(time.time()) % 1_000_000)
    parser.add_argument("--steps", type=int, default=2_000)
    given = parser.parse_args()
    print(f"seed {given.seed}", flush=True)
    os.environ["DJANGO_SETTINGS_MODULE"] = "tests.settings"
    import django
    from django.test.utils import setup_test_environment

    django.setup()
    setup_test_environment()
    from tests import counterparts
    from tests.faults.machine import play, told
    from tests.faults.world import installed, small_disk

    kinds = ["process", *([] if counterparts.missing("docker") else ["docker"])]
    with ExitStack() as stack:
        disk = None if counterparts.missing("root") else stack.enter_context(small_disk(128))
        world = stack.enter_context(installed(*kinds, disk=disk))
        print(told(play(world, given.seed, given.steps), given.seed), flush=True)


if __name__ == "__main__":
    main()
