"""Where an installation's own files lie: those that a backup holds, by their names in the archive."""

from __future__ import annotations

from pathlib import Path

from django.conf import settings

KEYS = {"SECRET_KEY": "keys/django.key", "JWT_KEY": "keys/jwt.key", "PEPPER": "keys/pepper.key"}
VAULT = "keys/vault.json"


def files() -> dict[str, Path]:
    """Each small file's place; it need not be there."""
    keys = {name: Path(settings.KEYS_DIR) / Path(name).name for name in KEYS.values()}
    own = {"instance.id": Path(settings.HOME) / "instance.id", "platform.toml": Path(settings.CONFIG_FILE)}
    return {**own, **keys, VAULT: Path(settings.VAULT_KEY_FILE)}


def databases() -> list[Path]:
    """The database's file, where it is one."""
    database = settings.DATABASES["default"]
    return [Path(database["NAME"])] if database["ENGINE"].endswith("sqlite3") else []


def from_environment() -> list[str]:
    """The keys that the environment gives instead of a file."""
    return [name for name, file in KEYS.items() if getattr(settings, name) and not files()[file].is_file()]
