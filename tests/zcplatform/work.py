"""Work for the clusters of a served home: what the ticker calls, and what the workers do."""

from __future__ import annotations

import json
import subprocess
import time
from pathlib import Path

from django.conf import settings
from django_q.tasks import async_task


def hand_out() -> None:
    """Queue the orders that lie in the home's ``todo`` folder; stands where the due runs are enqueued."""
    for path in sorted((Path(settings.HOME) / "todo").glob("[!.]*")):
        order = json.loads(path.read_text())
        path.unlink()
        async_task(f"tests.zcplatform.work.{order['act']}", order["out"], order["seconds"], cluster=order["cluster"])


def write(out: str, seconds: float) -> None:
    Path(out + ".begun").write_text("")
    time.sleep(seconds)
    Path(out).write_text("done")


def start_agent(out: str, seconds: float) -> None:
    """Start a program the way the process runtime does, and write its process id."""
    agent = subprocess.Popen(["sleep", str(seconds)], start_new_session=True, stdin=subprocess.DEVNULL)
    partial = Path(out + ".part")
    partial.write_text(str(agent.pid))
    partial.rename(out)
