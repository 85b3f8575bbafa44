"""``python -m tests.servers make test`` runs a command on a PostgreSQL and a Redis of its own, gone afterwards."""

from __future__ import annotations

import os
import signal
import subprocess
import sys

from tests import postgres, redis


def main(command: list[str]) -> int:
    """Run ``command`` on both; its exit code."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that both are stopped
    with postgres.cluster() as database, redis.server() as counters:
        env = {"ZCPLATFORM_DATABASE_URL": database, "ZCPLATFORM_REDIS_URL": counters.url}
        return subprocess.run(command, env=os.environ | env, check=False).returncode


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
