"""XChaCha20-Poly1305, and the wire form ``v{n}:{base64 nonce}:{base64 ciphertext+tag}``. Pure functions.

The associated data binds a value to its place: purpose, owner, field, the secret's own id and the key version.
Not covered: an older ciphertext of the same place put back (rollback of the storage).
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import json
import re
import secrets
from dataclasses import dataclass

from nacl import bindings, exceptions

from zcplatform.lib.errors import VaultError
from zcplatform.lib.redact import MASK

ALGORITHM = "xchacha20poly1305"
KEY_BYTES = bindings.crypto_aead_xchacha20poly1305_ietf_KEYBYTES
NONCE_BYTES = bindings.crypto_aead_xchacha20poly1305_ietf_NPUBBYTES
TAG_BYTES = bindings.crypto_aead_xchacha20poly1305_ietf_ABYTES
_VERSION = re.compile(r"v([1-9][0-9]{0,8})", re.ASCII)


class KeyBytes(bytes):
    """A key that does not print itself, not even in the frames of a traceback."""

    def __repr__(self) -> str:
        return f"KeyBytes({MASK})"

    __str__ = __repr__


@dataclass(frozen=True)
class Place:
    """Where a value belongs; a value opens nowhere else. ``id`` is the secret's public id."""

    purpose: str
    owner: str
    field: str
    id: str

    def associated_data(self, version: int) -> bytes:
        bound = {"format": 1, "key_version": version, **self.__dict__}
        return json.dumps(bound, sort_keys=True, separators=(",", ":"), ensure_ascii=True).encode()


def encrypt(plaintext: bytes, *, key: KeyBytes, version: int, place: Place) -> str:
    """The wire form of ``plaintext`` under a fresh random nonce."""
    nonce = secrets.token_bytes(NONCE_BYTES)
    sealed = bindings.crypto_aead_xchacha20poly1305_ietf_encrypt(plaintext, place.associated_data(version), nonce, key)
    return f"v{version}:{_encode(nonce)}:{_encode(sealed)}"


def decrypt(text: str, *, key: KeyBytes, place: Place) -> bytes:
    """The plaintext. VaultError ``vault_bad_format`` for what is no wire form, ``vault_tampered`` for all the rest."""
    version, nonce, sealed = _parse(text)
    try:
        return bindings.crypto_aead_xchacha20poly1305_ietf_decrypt(sealed, place.associated_data(version), nonce, key)
    except exceptions.CryptoError:
        raise VaultError("A stored secret does not open here: altered, or moved.", type="vault_tampered") from None


def version_of(text: str) -> int:
    """The key version that a wire form names; VaultError ``vault_bad_format`` when it is none."""
    return _parse(text)[0]


def fingerprint(key: KeyBytes) -> str:
    """What identifies a key without telling it, in hex."""
    return hashlib.sha256(b"zcplatform vault key\0" + key).hexdigest()


def _parse(text: str) -> tuple[int, bytes, bytes]:
    version, nonce, sealed = [*text.split(":"), "", "", ""][:3]
    number = _VERSION.fullmatch(version)
    if number and text.count(":") == 2:
        raw_nonce, raw_sealed = _decode(nonce), _decode(sealed)
        if len(raw_nonce) == NONCE_BYTES and len(raw_sealed) >= TAG_BYTES:
            return int(number[1]), raw_nonce, raw_sealed
    raise VaultError("A stored secret is damaged.", type="vault_bad_format")


def _encode(data: bytes) -> str:
    return base64.b64encode(data).decode()


def _decode(text: str) -> bytes:
    """Strict: one text for one value, so that not even the unused bits of base64 can be changed. Empty if bad."""
    try:
        data = base64.b64decode(text.encode(), validate=True)
    except (binascii.Error, UnicodeError):
        return b""
    return data if _encode(data) == text else b""
