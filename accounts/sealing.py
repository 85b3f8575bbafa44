"""Texts that must be read again but should not stand open in the database, for apps below the vault.

Sealed with a key made from PEPPER, which lies outside the database: a copy of the database alone does not open them.
"""

from __future__ import annotations

import base64
import hashlib
import hmac

from cryptography.fernet import Fernet, InvalidToken
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from django.conf import settings

from zcplatform.lib.errors import Misconfigured


def seal(text: str, purpose: str) -> str:
    """``text`` encrypted and authenticated; opened again for the same ``purpose`` only."""
    return _cipher(purpose).encrypt(text.encode()).decode()


def unseal(sealed: str, purpose: str) -> str:
    """The text. Misconfigured ``pepper_changed`` when it was sealed under another pepper, or is not ours."""
    try:
        return _cipher(purpose).decrypt(sealed.encode()).decode()
    except InvalidToken as error:
        raise Misconfigured("This was sealed under another PEPPER.", type="pepper_changed") from error


def keyed_hash(purpose: str, *parts: str) -> bytes:
    """HMAC-SHA256 of the parts under PEPPER, one purpose never matching another's. Misconfigured ``keys_missing``."""
    message = b"".join(len(part.encode()).to_bytes(4) + part.encode() for part in (purpose, *parts))
    return hmac.new(_pepper(), message, hashlib.sha256).digest()


def _cipher(purpose: str) -> Fernet:
    derived = HKDF(SHA256(), 32, salt=None, info=f"zcplatform seal {purpose}".encode()).derive(_pepper())
    return Fernet(base64.urlsafe_b64encode(derived))


def _pepper() -> bytes:
    if not settings.PEPPER:
        raise Misconfigured("There is no pepper key yet. Run: manage.py bootstrap", type="keys_missing")
    return settings.PEPPER.encode()
