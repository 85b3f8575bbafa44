"""What an archive says of itself: format, versions, members with their checksums, row counts, and a signature. Pure."""

from __future__ import annotations

import json
import re
from dataclasses import asdict, dataclass, field
from typing import Any

from backups.errors import ArchiveRefused

FORMAT = 1
NAME = "manifest.json"
MAX_BYTES = 1_000_000
SQLITE, POSTGRES = "database.sqlite3", "database.pgdump"
SMALL = ("instance.id", "platform.toml", "keys/django.key", "keys/jwt.key", "keys/pepper.key", "keys/vault.json")
MAX_SMALL = 1_000_000
MAX_DATABASE = 2**40
NEEDED = {"instance.id", "keys/vault.json"}


@dataclass(frozen=True)
class Member:
    """One file of the archive; its name, size in bytes and SHA-256 in hex."""

    name: str
    size: int
    sha256: str


@dataclass(frozen=True)
class Manifest:
    """``migrations`` is the newest applied one of each app, ``rows`` counts by table. ``environment`` names keys that
    the installation had in its environment: they are not in the archive. ``vault`` are fingerprints by version."""

    made_at: str
    version: str
    vendor: str
    instance: str
    migrations: dict[str, str]
    rows: dict[str, int]
    vault: dict[str, str]
    wrapped: bool
    environment: list[str]
    members: list[Member]
    format: int = FORMAT
    signature: str = field(default="", compare=False)

    @property
    def database(self) -> Member:
        return next(member for member in self.members if member.name in (SQLITE, POSTGRES))

    def signed(self) -> bytes:
        """What the signature is over: everything but itself."""
        body = {name: value for name, value in asdict(self).items() if name != "signature"}
        return json.dumps(body, sort_keys=True, separators=(",", ":")).encode()

    def dump(self) -> bytes:
        return json.dumps(asdict(self), indent=1, sort_keys=True).encode() + b"\n"


def parse(content: bytes) -> Manifest:
    """ArchiveRefused ``archive_newer`` for a format of the future, ``archive_damaged`` for what is no manifest."""
    try:
        data = json.loads(content)
        number = data["format"]
        if type(number) is int and number > FORMAT:
            message = f"The archive has format {number}; this version of zcplatform reads up to {FORMAT}."
            raise ArchiveRefused(message, type="archive_newer")
        return _checked(data)
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise ArchiveRefused("The archive's manifest is damaged.", type="archive_damaged") from error


def _checked(data: dict[str, Any]) -> Manifest:
    found = Manifest(**{**data, "members": [Member(**item) for item in data["members"]]})
    names = [member.name for member in found.members]
    databases = [name for name in names if name in (SQLITE, POSTGRES)]
    texts = (found.made_at, found.version, found.vendor, found.instance, found.signature, *found.environment)
    pairs = (*found.migrations.items(), *found.vault.items())
    sound = (
        found.format == FORMAT
        and len(databases) == 1
        and set(names) >= NEEDED
        and set(names) <= {*SMALL, *databases}
        and len(names) == len(set(names))
        and all(_is_member(member) for member in found.members)
        and all(isinstance(text, str) for text in (*texts, *(part for pair in pairs for part in pair)))
        and all(isinstance(k, str) and type(v) is int and v >= 0 for k, v in found.rows.items())
    )
    if not sound:
        raise ValueError("manifest")
    return found


def _is_member(member: Member) -> bool:
    limit = MAX_SMALL if member.name in SMALL else MAX_DATABASE
    return type(member.size) is int and 0 <= member.size <= limit and bool(re.fullmatch("[0-9a-f]{64}", member.sha256))
