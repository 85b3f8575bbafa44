"""One description of a field: the form, the API's validation and the config renderers all follow it."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from math import isfinite
from typing import Any, Literal
from urllib.parse import urlsplit

from django.conf import settings
from django.core.exceptions import ValidationError
from django.core.validators import validate_email

from accounts.emails import with_ascii_domain
from zcplatform.lib.errors import InvalidField
from zcplatform.lib.outside import only_elsewhere
from zcplatform.lib.redact import SecretStr
from zcplatform.lib.text import check_text

FieldType = Literal["text", "integer", "number", "boolean", "list", "url", "email", "secret"]
URL_LENGTH = 300
_PORTS = {"http": 80, "https": 443}
# Printable ASCII less what a header, a log or another parser could read differently.
_URL = re.compile(r"""[^\x00-\x20\x7f-\U0010ffff"'<>\\^`{|}]+""")


@dataclass(frozen=True)
class Field:
    """``pattern`` must match the whole value (of a list: each item). ``low`` and ``high`` bound numbers, both ends
    allowed; ``max_length`` counts characters (of a list: of each item), ``max_items`` the items of a list.

    ``place``: the value says where secrets go, as a web address always does; ``unset`` is what an empty one means."""

    name: str
    label: str
    type: FieldType = "text"
    required: bool = False
    help: str = ""
    pattern: str = ""
    choices: tuple[str, ...] = ()
    low: float | None = None
    high: float | None = None
    max_length: int = 200
    max_items: int = 100
    place: bool = False
    unset: str = ""

    @property
    def secret(self) -> bool:
        return self.type == "secret"


def check_url(value: str, *, field: str) -> str:
    """``value`` without a slash at the end. InvalidField unless it is ``https://host[:port][/path]``, or ``http://``
    where ``ALLOW_HTTP_ENDPOINTS`` permits it: no user name, no query, no fragment.

    Only the form; what the name resolves to is judged when something connects to it."""
    schemes = ("https", "http") if settings.ALLOW_HTTP_ENDPOINTS else ("https",)
    try:
        parts = urlsplit(value)
        port_ok = parts.port is None or parts.port > 0
    except ValueError:
        raise InvalidField("This is not a web address.", field=field) from None
    if not _URL.fullmatch(value) or len(value) > URL_LENGTH or not parts.hostname or not port_ok:
        raise InvalidField("This is not a web address.", field=field)
    if parts.scheme not in schemes:
        raise InvalidField(f"The address must begin with {' or '.join(s + '://' for s in schemes)}.", field=field)
    if "@" in parts.netloc or "?" in value or "#" in value:
        raise InvalidField("An address without user name, query and fragment is expected.", field=field)
    if why := only_elsewhere(parts.hostname):
        raise InvalidField(why, field=field)
    return value.rstrip("/")


def origin_of(fields: Iterable[Field], values: Mapping[str, Any]) -> str:
    """Where the secrets beside ``values`` go: scheme, host and port of each place among ``fields``, in one spelling.
    Empty where no field names a place."""
    places = [field for field in fields if field.place or field.type == "url"]
    return " ".join(place_of(str(values.get(field.name) or field.unset)) for field in places)


def place_of(value: str) -> str:
    """Scheme, host and port of a web address in their one spelling; of anything else itself, in small letters."""
    try:
        parts = urlsplit(value)
        port = parts.port or _PORTS[parts.scheme]
    except (ValueError, KeyError):
        return value.lower().rstrip(".")
    return f"{parts.scheme}://{(parts.hostname or '').rstrip('.')}:{port}"


def clean(field: Field, value: Any) -> Any:
    """The value as it is stored: str, int, float, bool, list of str, or SecretStr. InvalidField names the field."""
    if field.type == "boolean":
        return _boolean(field, value)
    if field.type in ("integer", "number"):
        return _number(field, value)
    if field.type == "list":
        return _list(field, value)
    if field.type == "secret":
        return SecretStr(_text(field, value.reveal() if isinstance(value, SecretStr) else value))
    return _text(field, value)


def clean_all(fields: Iterable[Field], values: Mapping[str, Any], *, partial: bool = False) -> dict[str, Any]:
    """Every given value, cleaned. Unknown names and, unless ``partial``, missing required ones are InvalidField.

    An empty value (None, "" or an empty list) counts as absent; with ``partial`` it comes back as None, which
    clears an optional field.
    """
    known = {field.name: field for field in fields}
    for name in values:
        if name not in known:
            raise InvalidField("There is no such field.", field=_printable(name))
    cleaned: dict[str, Any] = {}
    for name, field in known.items():
        value = values.get(name)
        if not (value is None or value == "" or value == []):
            cleaned[name] = clean(field, value)
        elif field.required and (name in values or not partial):
            raise InvalidField("This field is required.", field=name)
        elif name in values and partial:
            cleaned[name] = None
    return cleaned


def _printable(name: Any) -> str:
    return str(name).encode("ascii", "replace").decode()[:64]


def _text(field: Field, value: Any) -> str:
    text = check_text(value, field=field.name, max_length=field.max_length)
    if not text:
        raise InvalidField("This field is empty.", field=field.name)
    if field.choices and text not in field.choices:
        raise InvalidField(f"One of {', '.join(field.choices)} is expected.", field=field.name)
    if field.pattern and not re.fullmatch(field.pattern, text):
        raise InvalidField(f"This is not a valid value. {field.help}".strip(), field=field.name)
    if field.type == "url":
        return check_url(text, field=field.name)
    if field.type == "email":
        return _email(field, text)
    if field.place and (why := only_elsewhere(text)):
        raise InvalidField(why, field=field.name)
    return text


def _email(field: Field, text: str) -> str:
    address = with_ascii_domain(text)
    try:
        validate_email(address)
    except ValidationError:
        raise InvalidField("This is not an e-mail address.", field=field.name) from None
    return address


def _boolean(field: Field, value: Any) -> bool:
    if not isinstance(value, bool):
        raise InvalidField("true or false is expected.", field=field.name)
    return value


def _number(field: Field, value: Any) -> int | float:
    wanted = int if field.type == "integer" else int | float
    if isinstance(value, bool) or not isinstance(value, wanted) or (isinstance(value, float) and not isfinite(value)):
        raise InvalidField("A number is expected.", field=field.name)
    if (field.low is not None and value < field.low) or (field.high is not None and value > field.high):
        raise InvalidField(f"The number must be between {field.low} and {field.high}.", field=field.name)
    return value


def _list(field: Field, value: Any) -> list[str]:
    if not isinstance(value, list | tuple):
        raise InvalidField("A list is expected.", field=field.name)
    if len(value) > field.max_items:
        raise InvalidField(f"At most {field.max_items} entries are allowed.", field=field.name)
    return list(dict.fromkeys(_text(field, item) for item in value))
