"""The platform's own key files: created once by ``bootstrap``, mode 0600, refused when loose.

Django's, the JWT and the pepper key are separate, so that one can be replaced without the others.
The vault's key file has versions and lives in ``vault.keyring``.
"""

from __future__ import annotations

import re
import secrets
from pathlib import Path

from django.core.exceptions import ImproperlyConfigured

from zcplatform.lib import env
from zcplatform.lib.private_files import check_private, write_private

NAMES = {"SECRET_KEY": "django.key", "JWT_KEY": "jwt.key", "PEPPER": "pepper.key"}
MIN_LENGTH = 43  # 32 random bytes in URL-safe base64


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


def create_missing(folder: Path, home: Path | None = None) -> list[str]:
    """Create the keys that neither the environment nor ``folder`` has, and the id in ``home`` (the folder above).

    Returns the names of new ones. May be called by two processes at once: what is there is never replaced.
    """
    home = home or folder.parent
    for path in (home, folder):
        path.mkdir(parents=True, exist_ok=True, mode=0o700)
    made = []
    for name, filename in NAMES.items():
        if env.raw(name) is None and _create(folder / filename, secrets.token_urlsafe(64)):
            made.append(name)
    if not instance_id(home) and _create(home / "instance.id", secrets.token_hex(6)):
        made.append("INSTANCE")
    return made


def _create(path: Path, content: str) -> bool:
    if path.exists():
        return False
    try:
        write_private(path, content.encode())
    except FileExistsError:  # another process was quicker, and its key is the one
        return False
    return True
