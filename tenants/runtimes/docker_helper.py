"""One-shot helper containers: what an ordinary user in the engine's group can't do himself, and nothing more.

A helper runs a text of ours with the interpreter of the demo image, has no network, no log and a read-only root,
sees one folder or one container's processes, and removes itself.
"""

from __future__ import annotations

import contextlib
import errno
import inspect
import time
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

from django.conf import settings

from tenants.agents.demo import PYTHON_IN_IMAGE
from tenants.runtimes.base import LABEL_HELPER, LABEL_INSTANCE
from tenants.runtimes.docker_engine import CREATE_S, START_S, Engine, Refused, in_our_words
from tenants.runtimes.docker_spec import MIB, bind, confinement
from tenants.runtimes.docker_streams import DeadlinePassed, Stream
from tenants.runtimes.image import ensure_demo_image
from tenants.states import Reason
from zcplatform.lib.errors import DependencyDown, DependencyTimeout, RunFailed

MOUNT = "/tenant"
HELPER_S = 120
MEMORY = 256 * MIB
DONE = b"done\n"


@dataclass(frozen=True)
class Script:
    name: str
    text: str


def script_of(module: ModuleType) -> Script:
    """The source of ``module``, read once: the worker may be an ordinary user that can't read the program's folder
    later, or the program may have been upgraded under it."""
    return Script(module.__name__.rpartition(".")[2], inspect.getsource(module))


@dataclass(frozen=True)
class Helper:
    """``script`` is one of our own stdlib modules; it ends its output with the line ``done``.

    ``folder`` is mounted at ``/tenant``; ``beside`` is the id of a container whose processes it sees.
    """

    script: Script
    arguments: tuple[str, ...]
    user: str
    capabilities: tuple[str, ...] = ()
    folder: Path | None = None
    beside: str = ""


def helper_body(helper: Helper, image: str) -> dict[str, Any]:
    host: dict[str, Any] = {
        **confinement(),
        "CapAdd": list(helper.capabilities),
        "NetworkMode": "none",
        "LogConfig": {"Type": "none", "Config": {}},  # what passes through may hold secrets
        "AutoRemove": True,
        "Memory": MEMORY,
        "MemorySwap": MEMORY,
        "PidsLimit": 16,
        "Mounts": [bind(str(helper.folder), MOUNT, read_only=False)] if helper.folder else [],
    }
    if helper.beside:
        host["PidMode"] = f"container:{helper.beside}"
    return {
        "Image": image,
        "Entrypoint": [PYTHON_IN_IMAGE, "-I", "-S", "-c", helper.script.text, *helper.arguments],
        "User": helper.user,
        "Labels": {LABEL_INSTANCE: settings.INSTANCE, LABEL_HELPER: helper.script.name},
        "OpenStdin": True,
        "StdinOnce": True,
        "AttachStdin": True,
        "AttachStdout": True,
        "AttachStderr": True,
        "HostConfig": host,
    }


def run_helper(engine: Engine, helper: Helper, stdin: bytes = b"") -> bytes:
    """Its stdout without the closing ``done``. RunFailed ``folder_failed`` with its stderr when it failed;
    DependencyTimeout after two minutes."""
    body = helper_body(helper, ensure_demo_image(engine))
    container = engine.call("create_container_from_config", body, limit_s=CREATE_S)["Id"]
    try:
        return _talk(engine, container, stdin)
    finally:
        with contextlib.suppress(Refused):  # it removes itself: 404, or 409 while it is at it
            engine.call("remove_container", container, force=True, v=True, limit_s=CREATE_S)


def remove_left(engine: Engine) -> list[str]:
    """Remove helpers whose worker was killed before it could start or remove them; returns their names."""
    filters = {"label": [f"{LABEL_INSTANCE}={settings.INSTANCE}", LABEL_HELPER]}
    rows = engine.call("containers", all=True, filters=filters, limit_s=CREATE_S)
    left = [row for row in rows if time.time() - row["Created"] > 2 * HELPER_S]
    for row in left:
        with contextlib.suppress(Refused):  # it may be removing itself
            engine.call("remove_container", row["Id"], force=True, v=True, limit_s=CREATE_S)
    return [row["Names"][0].lstrip("/") for row in left]


def _talk(engine: Engine, container: str, stdin: bytes) -> bytes:
    wanted = {"stdin": 1, "stdout": 1, "stderr": 1, "stream": 1}
    stream = Stream(engine.call("attach_socket", container, params=wanted))
    try:
        engine.call("start", container, limit_s=START_S)
        with in_our_words("helper"):
            stream.write(stdin, CREATE_S)
            out, err = _outputs(stream, time.monotonic() + HELPER_S)
    except DeadlinePassed as error:
        raise DependencyTimeout("A helper container did not end in time.") from error
    finally:
        stream.close()
    if not out.endswith(DONE):
        raise _failure(err.decode(errors="replace").strip())
    return out.removesuffix(DONE)


def _failure(stderr: str) -> RunFailed | DependencyDown:
    """From the last line of a traceback: a full disk may recover, anything else will not by itself."""
    last = stderr.splitlines()[-1][-500:] if stderr else "no output"
    if f"[Errno {errno.ENOSPC}]" in last or f"[Errno {errno.EDQUOT}]" in last:
        return DependencyDown("No space left for the tenant's folder.", type=Reason.WAITING_FOR_STORAGE)
    return RunFailed(f"A helper container failed: {last}", type=Reason.FOLDER_FAILED)


def _outputs(stream: Stream, deadline: float) -> tuple[bytes, bytes]:
    parts: dict[int, list[bytes]] = {1: [], 2: []}
    for which, piece in stream.payload(deadline):
        parts[which].append(piece)
    return b"".join(parts[1]), b"".join(parts[2])
