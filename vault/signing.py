"""Signatures by the vault's key: what bears one was made by whoever had the key, and has not been changed since."""

from __future__ import annotations

import hashlib
import hmac

from vault.keyfile import Key, Keyring

_PURPOSE = b"zcplatform signature\0"


def sign(ring: Keyring, data: bytes) -> str:
    """``v{n}:{hex}`` under the newest version."""
    return f"v{ring.newest.version}:{_digest(ring.newest, data)}"


def verify(ring: Keyring, data: bytes, signature: str) -> bool:
    """Whether ``signature`` was made over ``data`` by a key of this file."""
    version, _, digest = signature.partition(":")
    key = next((key for key in ring.keys if f"v{key.version}" == version), None)
    return key is not None and hmac.compare_digest(_digest(key, data), digest)


def _digest(key: Key, data: bytes) -> str:
    own = hashlib.sha256(_PURPOSE + key.secret).digest()
    return hmac.new(own, data, hashlib.sha256).hexdigest()
