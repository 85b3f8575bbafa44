"""Running a command beside an agent, with an end to its output and a real end to its time."""

from __future__ import annotations

import os
import secrets
import time
from collections.abc import Mapping, Sequence
from typing import Any

import structlog

from tenants.runtimes import kill_script
from tenants.runtimes.base import ExecResult
from tenants.runtimes.docker_engine import START_S, Engine, Refused, in_our_words
from tenants.runtimes.docker_helper import Helper, run_helper, script_of
from tenants.runtimes.docker_streams import DeadlinePassed, Stream
from zcplatform.lib.errors import Conflict, RunFailed

KILL = script_of(kill_script)
log = structlog.get_logger(__name__)

# In the environment of what ``exec`` begins, and so of its children: it is how they are found again.
MARK = "ZCPLATFORM_EXEC"
POLL_S = 0.05


def not_running() -> Conflict:
    return Conflict("The agent does not run.", type="not_running")


def run_beside(
    engine: Engine, raw: Mapping[str, Any], argv: Sequence[str], *, timeout_s: float, cap: int
) -> ExecResult:
    """``argv`` in the container whose ``inspect`` is ``raw``, as its own user. ``cap`` in bytes."""
    deadline = time.monotonic() + timeout_s
    mark = f"{MARK}={secrets.token_hex(16)}"
    exec_id, stream = _begin(engine, raw, argv, mark)
    try:
        with in_our_words("exec"):
            output, truncated, ended = _collect(stream, deadline, cap)
    finally:
        stream.close()
    exit_code = _exit_code(engine, exec_id, deadline) if ended else None
    if timed_out := exit_code is None:
        _kill(engine, raw, mark)
    return ExecResult(exit_code, output.decode("utf-8", "replace"), truncated=truncated, timed_out=timed_out)


def _begin(engine: Engine, raw: Mapping[str, Any], argv: Sequence[str], mark: str) -> tuple[str, Stream]:
    user = raw["Config"]["User"]
    try:
        made = engine.call("exec_create", raw["Id"], list(argv), user=user, environment=[mark], tty=False)
        return made["Id"], Stream(engine.call("exec_start", made["Id"], socket=True, limit_s=START_S))
    except Refused as error:
        if error.absent or error.conflict:  # it ended between our look and our call
            raise not_running() from error
        raise


def _collect(stream: Stream, deadline: float, cap: int) -> tuple[bytes, bool, bool]:
    """(what came, was it more than ``cap``, did it end before the deadline). What is beyond ``cap`` is thrown away,
    and the command goes on. A child may hold the stream open after the command itself has ended."""
    kept, truncated = bytearray(), False
    try:
        for _, piece in stream.payload(deadline):
            room = cap - len(kept)
            kept += piece[:room]
            truncated = truncated or len(piece) > room
    except DeadlinePassed:
        return bytes(kept), truncated, False
    return bytes(kept), truncated, True


def _exit_code(engine: Engine, exec_id: str, deadline: float) -> int | None:
    """None when it still runs at the deadline: a command may close its output long before it ends."""
    while True:
        seen = engine.call("exec_inspect", exec_id)
        if not seen["Running"]:
            return int(seen["ExitCode"] or 0)
        if time.monotonic() >= deadline:
            return None
        time.sleep(POLL_S)


def _kill(engine: Engine, raw: Mapping[str, Any], mark: str) -> None:
    if engine.is_local and os.geteuid() == 0:
        seen, clean = kill_script.kill_family(mark)
        if seen and clean:
            return
    # An ordinary user, or processes that are not to be seen from here. As the agent's own uid and in its own process
    # namespace no capability is needed, and nobody else's process can be hit.
    helper = Helper(KILL, (mark,), user=raw["Config"]["User"], beside=raw["Id"])
    try:
        log.info("exec_killed_by_helper", container=raw["Id"][:12], processes=int(run_helper(engine, helper)))
    except RunFailed as error:
        # Beside a container that has ended in the meantime no helper can start, and nothing is left to kill.
        log.warning("exec_kill_failed", container=raw["Id"][:12], error=error.message)
