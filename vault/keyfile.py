"""What stands in the vault's key file: versions of the key as JSON, wrapped by a passphrase where one is set. Pure."""

from __future__ import annotations

import base64
import json
import secrets
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any

from nacl import exceptions, secret
from nacl.pwhash import argon2id

from vault import cipher
from zcplatform.lib.errors import Misconfigured
from zcplatform.lib.redact import remember

FORMAT = 1
OPSLIMIT, MEMLIMIT = 3, 64 * 1024 * 1024  # about 0.13 s and 64 MB, once per process and change of the file
MAX_OPSLIMIT, MAX_MEMLIMIT = 20, 1024 * 1024 * 1024


@dataclass(frozen=True)
class Key:
    """One version of the key. Times are ISO 8601 in UTC."""

    version: int
    secret: cipher.KeyBytes = field(repr=False)
    created_at: str
    retired_at: str | None = None

    @property
    def fingerprint(self) -> str:
        return cipher.fingerprint(self.secret)


@dataclass(frozen=True)
class Keyring:
    """All versions, oldest first; never empty."""

    keys: tuple[Key, ...]
    wrapped: bool = False

    @property
    def newest(self) -> Key:
        return self.keys[-1]

    def get(self, version: int) -> Key | None:
        return next((key for key in self.keys if key.version == version), None)

    def appended(self, at: str) -> Keyring:
        return replace(self, keys=(*self.keys, new_key(self.newest.version + 1, at)))

    def retired(self, versions: set[int], at: str) -> Keyring:
        """The same with ``retired_at`` on those of ``versions`` that have none yet."""
        keys = (replace(k, retired_at=at) if k.version in versions and not k.retired_at else k for k in self.keys)
        return replace(self, keys=tuple(keys))

    def without(self, version: int) -> Keyring:
        return replace(self, keys=tuple(key for key in self.keys if key.version != version))


def new_key(version: int, at: str) -> Key:
    return Key(version, cipher.KeyBytes(secrets.token_bytes(cipher.KEY_BYTES)), at)


def dump(ring: Keyring, passphrase: str) -> bytes:
    """The file's content; wrapped when there is a passphrase."""
    keys = [
        {"version": k.version, "key": _encode(k.secret), "created_at": k.created_at, "retired_at": k.retired_at}
        for k in ring.keys
    ]
    content: dict[str, Any] = {"format": FORMAT, "algorithm": cipher.ALGORITHM, "keys": keys}
    if passphrase:
        content = _wrap(json.dumps(content).encode(), passphrase)
    return json.dumps(content, indent=2).encode() + b"\n"


def parse(content: bytes, passphrase: str) -> Keyring:
    """The keys in ``content``.

    Misconfigured: ``vault_key_damaged`` (empty, cut, no such JSON), ``vault_key_short``, ``vault_passphrase_missing``,
    ``vault_passphrase_wrong``.
    """
    try:
        return _parse(content, passphrase)
    except Misconfigured as error:
        message, type = error.message, error.type
    except (ValueError, KeyError, TypeError, AttributeError):
        message, type = "The vault key file is damaged: put it back from a backup.", "vault_key_damaged"
    del content, passphrase  # neither this frame nor a chained error may show a key in a traceback
    raise Misconfigured(message, type=type)


def _parse(content: bytes, passphrase: str) -> Keyring:
    data = json.loads(content)
    wrapped = "wrapped" in data
    if wrapped:
        data = json.loads(_unwrap(data["wrapped"], passphrase))
    if data["format"] != FORMAT or data["algorithm"] != cipher.ALGORITHM:
        raise ValueError("format")
    keys = tuple(_key(item) for item in data["keys"])
    versions = [key.version for key in keys]
    if not keys or versions != sorted(set(versions)):
        raise ValueError("versions")
    return Keyring(keys, wrapped)


def _key(item: dict[str, Any]) -> Key:
    version, raw = item["version"], _decode(item["key"])
    if type(version) is not int or not 0 < version < 10**9:
        raise ValueError("version")
    if len(raw) != cipher.KEY_BYTES:
        message = f"Version {version} of the vault key has {len(raw)} bytes instead of {cipher.KEY_BYTES}."
        raise Misconfigured(message, type="vault_key_short")
    remember(item["key"], for_good=True)
    for moment in filter(None, (item["created_at"], item["retired_at"])):
        datetime.fromisoformat(moment)
    return Key(version, cipher.KeyBytes(raw), item["created_at"], item["retired_at"])


def _wrap(content: bytes, passphrase: str) -> dict[str, Any]:
    salt = secrets.token_bytes(argon2id.SALTBYTES)
    box = secret.SecretBox(_derive(passphrase, salt, OPSLIMIT, MEMLIMIT)).encrypt(content)
    kdf = {"kdf": "argon2id", "opslimit": OPSLIMIT, "memlimit": MEMLIMIT, "salt": _encode(salt)}
    return {"format": FORMAT, "wrapped": {**kdf, "box": _encode(bytes(box))}}


def _unwrap(wrapped: dict[str, Any], passphrase: str) -> bytes:
    if not passphrase:
        message = "The vault key file is wrapped: set ZCPLATFORM_VAULT_PASSPHRASE_FILE."
        raise Misconfigured(message, type="vault_passphrase_missing")
    opslimit, memlimit, salt = wrapped["opslimit"], wrapped["memlimit"], _decode(wrapped["salt"])
    sane = 0 < opslimit <= MAX_OPSLIMIT and 8192 <= memlimit <= MAX_MEMLIMIT and len(salt) == argon2id.SALTBYTES
    box = _decode(wrapped["box"])
    if wrapped["kdf"] != "argon2id" or not sane or len(box) < secret.SecretBox.NONCE_SIZE + secret.SecretBox.MACBYTES:
        raise ValueError("wrapping")
    try:
        return secret.SecretBox(_derive(passphrase, salt, opslimit, memlimit)).decrypt(box)
    except exceptions.CryptoError:
        message = "The passphrase does not open the vault key file."
        raise Misconfigured(message, type="vault_passphrase_wrong") from None


def _derive(passphrase: str, salt: bytes, opslimit: int, memlimit: int) -> bytes:
    size = secret.SecretBox.KEY_SIZE
    return argon2id.kdf(size, passphrase.encode(), salt, opslimit=opslimit, memlimit=memlimit)


def _encode(data: bytes) -> str:
    return base64.b64encode(data).decode()


def _decode(text: str) -> bytes:
    return base64.b64decode(text.encode(), validate=True)
