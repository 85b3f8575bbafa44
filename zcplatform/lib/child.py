"""How the platform starts programs: what runs never depends on the folder that somebody happened to stand in.

``python -m`` looks into the working directory first, and so does an empty or relative entry of a path. Whoever may
write to such a folder would have their code run as the user of the platform, which may be root.
"""

from __future__ import annotations

import os
import shutil
import stat
import sys
from pathlib import Path

BASE = Path(__file__).resolve().parents[2]


def module(name: str, *arguments: str) -> tuple[str, ...]:
    """The command that runs a module with this interpreter, not looking for it in the working directory."""
    return (sys.executable, "-P", "-m", name, *arguments)


def python_path() -> str:
    """For ``PYTHONPATH``: the platform itself, importable from anywhere, and what of the caller's is absolute."""
    given = os.environ.get("PYTHONPATH", "").split(os.pathsep)
    return os.pathsep.join([str(BASE), *(entry for entry in given if Path(entry).is_absolute())])


def find(name: str, *, path: str | None = None) -> str | None:
    """The program ``name`` in the folders of ``path``, the environment's by default, that nobody but root and the
    present user can write to; None when it is in none of them."""
    folders = (os.environ.get("PATH", os.defpath) if path is None else path).split(os.pathsep)
    return shutil.which(name, path=os.pathsep.join(filter(_is_safe, folders)) or os.devnull)


def _is_safe(folder: str) -> bool:
    """Absolute, and owned by root or by us, and not for everybody to write. Its group is the host's own affair."""
    try:
        info = Path(folder).stat()
    except OSError:
        return False
    ours = info.st_uid in (0, os.geteuid())
    return Path(folder).is_absolute() and ours and not info.st_mode & stat.S_IWOTH
