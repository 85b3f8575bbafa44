"""The home's own folders and their modes: it can be passed through but not listed, so that a tenant's process reaches
its own folder and no other. Where locks, sockets and boards lie, nobody else gets in."""

from __future__ import annotations

import os
from pathlib import Path

from zcplatform.lib.errors import Misconfigured

FOLDERS = ((".", 0o711), ("tenants", 0o711), ("trash", 0o700), ("run", 0o700))


def make_folders(home: Path) -> None:
    """Make what is missing and set every mode; may be run again at any time. Misconfigured ``home_of_another`` when the
    home belongs to another user: what we made there, root above all, its own user could not read."""
    if home.is_dir() and home.stat().st_uid != os.geteuid():
        uid = home.stat().st_uid
        text = f"{home} belongs to uid {uid}, and this runs as uid {os.geteuid()}: run it as the user of the home."
        raise Misconfigured(text, type="home_of_another")
    for name, mode in FOLDERS:
        folder = home / name
        folder.mkdir(parents=True, exist_ok=True)
        folder.chmod(mode)


def run_folder(home: Path) -> Path:
    """``HOME/run``, with its mode: an earlier version let others pass through it."""
    folder = home / "run"
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    if folder.stat().st_mode & 0o077:
        folder.chmod(0o700)
    return folder
