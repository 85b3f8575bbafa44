"""Tenant folders where the platform is an ordinary user in the engine's group, who may give no file away.

The wrapper folder and ``logs/`` stay the platform's, so that archiving is a rename; ``config/`` and ``data/`` inside
belong to the tenant's uid, and what concerns them is done by a helper container that sees that one folder alone.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping
from pathlib import Path
from uuid import UUID

from django.conf import settings

from tenants.folders import DirectFolders, move_back, storage_errors
from tenants.runtimes import folder_script
from tenants.runtimes.docker_engine import Engine
from tenants.runtimes.docker_helper import Helper, run_helper, script_of
from zcplatform.lib.errors import RunFailed

CAPABILITIES = ("CHOWN", "DAC_OVERRIDE", "FOWNER")
NOBODY = 65534


KEEP = script_of(folder_script)


class HelperFolders:
    """A ``FolderKeeper`` whose privileged half runs in helper containers; each act costs one of them (about 0.6 s)."""

    cheap = False

    def __init__(self, engine: Engine) -> None:
        self.engine = engine

    def prepare(self, folder: Path, uid: int) -> None:
        _checked(folder)
        with storage_errors(folder):
            folder.mkdir(parents=True, exist_ok=True, mode=0o700)
            folder.chmod(0o700)
            (folder / "logs").mkdir(exist_ok=True, mode=0o700)
        self._helper("prepare", folder, uid)

    def write_config(self, folder: Path, uid: int, files: Mapping[str, bytes]) -> None:
        for name in files:
            if "/" in name or name in ("", ".", "..") or name.endswith(".tmp"):
                raise RunFailed("A configuration file has a plain name.", type="folder_failed")
        encoded = {name: base64.b64encode(content).decode() for name, content in files.items()}
        self._helper("write", folder, uid, json.dumps(encoded).encode())

    def read_config(self, folder: Path) -> dict[str, bytes]:
        if not folder.is_dir():
            return {}
        encoded = json.loads(self._helper("read", folder, NOBODY))
        return {name: base64.b64decode(text) for name, text in encoded.items()}

    def write_log(self, folder: Path, name: str, text: str) -> None:
        DirectFolders().write_log(folder, name, text)

    def read_log(self, folder: Path, name: str) -> str:
        return DirectFolders().read_log(folder, name)

    def size(self, folder: Path) -> int:
        return int(self._helper("size", folder, NOBODY)) if folder.is_dir() else 0

    def archive(self, folder: Path, trash: Path) -> None:
        DirectFolders().archive(folder, trash)

    def bring_back(self, trash: Path, folder: Path, uid: int) -> None:
        if trash.is_dir():
            self.prepare(trash, uid)  # first: its former uid may be another tenant's by now
            with storage_errors(trash):
                move_back(trash, folder)

    def purge(self, trash: Path) -> None:
        if not trash.is_dir():
            return
        self._helper("purge", trash, NOBODY)
        with storage_errors(trash):
            trash.rmdir()

    def _helper(self, act: str, folder: Path, uid: int, stdin: bytes = b"") -> bytes:
        helper = Helper(KEEP, (act, str(uid)), user="0:0", capabilities=CAPABILITIES, folder=_checked(folder))
        return run_helper(self.engine, helper, stdin)


def _checked(folder: Path) -> Path:
    """A folder named by its UUID below HOME, with no link on the way: it is about to be shown to root."""
    home = Path(settings.HOME)
    try:
        inside = folder.relative_to(home).parts
        plain = ".." not in inside and str(UUID(inside[-1])) == inside[-1]
        plain = plain and not any(home.joinpath(*inside[: n + 1]).is_symlink() for n in range(len(inside)))
    except (ValueError, IndexError):
        plain = False
    if not plain:
        raise RunFailed("A tenant's folder is named by its UUID, below the home.", type="folder_failed")
    return folder
