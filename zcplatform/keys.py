"""The platform's own key files: created once by ``bootstrap``, mode 0600, refused when loose.

Django's, the JWT and the pepper key are separate, so that one can be replaced without the others.
The vault's key file has versions and lives in ``vault.keyring``.
"""

from __future__ import annotations

import os
import re
import secrets
import stat
from pathlib import Path

from django.core.exceptions import ImproperlyConfigured

from zcplatform.lib import env

NAMES = {"SECRET_KEY": "django.key", "JWT_KEY": "jwt.key", "PEPPER": "pepper.key"}
MIN_LENGTH = 43  # 32 random bytes in URL-safe base64


def check_private(path: Path) -> None:
    """Refuse a key file that others could read or replace: link, foreign owner, loose mode, open folder."""
    info = path.lstat()
    if not stat.S_ISREG(info.st_mode):
        raise ImproperlyConfigured(f"{path} must be a regular file, not a link or a folder.")
    if info.st_uid not in (os.geteuid(), 0):
        raise ImproperlyConfigured(f"{path} belongs to uid {info.st_uid}; it must belong to uid {os.geteuid()}.")
    if info.st_mode & 0o077:
        raise ImproperlyConfigured(f"{path} has mode {info.st_mode & 0o777:04o}; run: chmod 600 {path}")
    folder = path.parent.stat()
    if folder.st_mode & 0o022:
        raise ImproperlyConfigured(f"{path.parent} can be written by others; run: chmod 700 {path.parent}")


def write_private(path: Path, content: bytes) -> None:
    """Create ``path`` with mode 0600 so that a reader sees all of it or nothing; FileExistsError if present."""
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(4)}.tmp")
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        os.link(temporary, path)
    finally:
        temporary.unlink()
    sync_folder(path.parent)


def sync_folder(folder: Path) -> None:
    """Make a rename or link in ``folder`` durable."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def read(name: str, folder: Path) -> str:
    """The key ``name``: from the environment, from its ``_FILE``, or from ``folder``; empty when there is none."""
    value = env.raw(name)
    if value is None:
        path = folder / NAMES[name]
        if not path.is_symlink() and not path.exists():
            return ""
        check_private(path)
        value = path.read_text().strip()
    if len(value) < MIN_LENGTH:
        raise ImproperlyConfigured(f"{env.PREFIX}{name} is too short: at least {MIN_LENGTH} characters are needed.")
    return value


def instance_id(home: Path) -> str:
    """This installation's id: from the environment or ``home``; empty before bootstrap."""
    value = env.text("INSTANCE")
    path = home / "instance.id"
    if not value and path.exists():
        value = path.read_text().strip()
    if value and not re.fullmatch(r"[a-z0-9]{8,32}", value):
        raise ImproperlyConfigured(f"{env.PREFIX}INSTANCE={value!r}: expected 8 to 32 of a-z and 0-9.")
    return value


def create_missing(folder: Path) -> list[str]:
    """Create the keys that neither the environment nor ``folder`` has; returns the names of new ones."""
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    made = []
    for name, filename in NAMES.items():
        if env.raw(name) is None and not (folder / filename).exists():
            write_private(folder / filename, secrets.token_urlsafe(64).encode())
            made.append(name)
    if not instance_id(folder.parent):
        write_private(folder.parent / "instance.id", secrets.token_hex(6).encode())
        made.append("INSTANCE")
    return made
