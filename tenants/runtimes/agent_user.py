"""As whom an agent of the process runtime runs: the one place that decides it. Whoever starts an agent, looks at one,
or tells somebody of it, asks here."""

from __future__ import annotations

import os
import shlex
import sys
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from django.conf import settings

from zcplatform.lib.errors import Misconfigured, RunFailed

FLAG = "ZCPLATFORM_ALLOW_UNPRIVILEGED_PROCESS=1"


@dataclass(frozen=True)
class AgentUser:
    """``own``: under its tenant's uid; otherwise under the platform's, which ``allowed`` says may be. ``closed`` is all
    that stands in the way of an own one where the platform is root, the outermost first."""

    own: bool
    allowed: bool
    closed: tuple[str, ...] = ()

    @property
    def why(self) -> str:
        """Why it is not an own one, as the end of a sentence; empty where it is."""
        if self.own:
            return ""
        if not self.closed:
            return "the platform does not run as root"
        return f"{' and '.join(self.closed)} {'is' if len(self.closed) == 1 else 'are'} closed to others"

    @property
    def todo(self) -> str:
        """What would give each agent its own; empty where it has that."""
        if self.own:
            return ""
        if not self.closed:
            return "Use the runtime docker, or run as root."
        return f"Let others pass through: chmod o+x {shlex.join(self.closed)}"

    def require(self) -> AgentUser:
        """Itself, where the agent may run so. Misconfigured ``unprivileged_process``, or RunFailed
        ``folder_unreachable`` with the first closed path, where it may not."""
        if self.allowed:
            return self
        text = f"Agents can't have users of their own, since {self.why}. {self.todo}"
        if self.closed:
            raise RunFailed(text, type="folder_unreachable", path=self.closed[0])
        raise Misconfigured(f"{text} Or allow it with {FLAG}.", type="unprivileged_process")


def agent_user(paths: Iterable[str] = (), uid: int = -1) -> AgentUser:
    """Of an agent that uses these paths (its program, files and folders), some of which may be for ``uid`` alone; of
    the demo agent when there are none."""
    ways = [Path(path) for path in paths] or [Path(sys.executable), Path(settings.HOME) / "tenants"]
    is_root = os.geteuid() == 0
    closed = tuple(dict.fromkeys(name for way in ways for name in _closed(way, uid))) if is_root else ()
    own = is_root and not closed
    return AgentUser(own, own or bool(settings.ALLOW_UNPRIVILEGED_PROCESS), closed)


def _closed(path: Path, uid: int) -> Iterable[str]:
    """The folders on the way to ``path`` that ``uid`` may not enter, and the file itself where it may not use it."""
    for way in (path.absolute(), path.resolve()):
        yield from (str(folder) for folder in reversed(way.parents) if _lacks(folder, 0o1, uid))
        if way.is_file() and _lacks(way, 0o5 if os.access(way, os.X_OK) else 0o4, uid):
            yield str(way)


def _lacks(path: Path, bits: int, uid: int) -> bool:
    """Whether the mode refuses ``bits`` to ``uid`` and the group of the same number, as the kernel decides it."""
    if not path.exists():
        return False
    seen = path.stat()
    shift = 6 if seen.st_uid == uid else 3 if seen.st_gid == uid else 0
    return (seen.st_mode >> shift) & bits != bits
