"""The one place where an e-mail address becomes comparable."""

from __future__ import annotations

import unicodedata

import idna
from django.core.exceptions import ValidationError
from django.core.validators import validate_email

from zcplatform.lib.errors import InvalidField

MAX_LENGTH = 254


def normalise_email(value: str) -> str:
    """Trimmed, NFKC, lower case, ASCII only, the domain as DNS has it (``xn--…``); InvalidField ``invalid_email`` for
    anything that is not one address."""
    if len(value) > MAX_LENGTH * 4:
        raise InvalidField("That e-mail address is too long.", type="invalid_email", field="email")
    email = with_ascii_domain(unicodedata.normalize("NFKC", value.strip())).lower()
    try:
        validate_email(email)
    except ValidationError as error:
        raise InvalidField("That is not an e-mail address.", type="invalid_email", field="email") from error
    if not email.isascii() or len(email) > MAX_LENGTH:
        raise InvalidField("That is not an e-mail address we can use.", type="invalid_email", field="email")
    return email


def with_ascii_domain(email: str) -> str:
    """``email`` with the domain as DNS has it: ``info@bücher.example`` is ``info@xn--bcher-kva.example``.

    What is ASCII already, and what is no domain, stays as it is: the validation that follows refuses it."""
    local, at, domain = email.rpartition("@")
    if domain.isascii():
        return email
    try:
        return local + at + idna.encode(domain, uts46=True, std3_rules=True).decode()
    except idna.IDNAError:
        return email
