"""The home's own folders and their modes: it can be passed through but not listed, so that a tenant's process reaches
its own folder and no other."""

from __future__ import annotations

from pathlib import Path

FOLDERS = ((".", 0o711), ("tenants", 0o711), ("trash", 0o700), ("run", 0o711))


def make_folders(home: Path) -> None:
    """Make what is missing and set every mode; may be run again at any time."""
    for name, mode in FOLDERS:
        folder = home / name
        folder.mkdir(parents=True, exist_ok=True)
        folder.chmod(mode)
