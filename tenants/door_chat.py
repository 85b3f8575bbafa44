"""What a chat-completions request may hold. Only the fields of this list get through to an agent."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping
from typing import Any

from zcplatform.lib.errors import InvalidField, RequestError

MAX_MESSAGES = 1_000
MAX_TOKENS = 32_768
MAX_PARTS, BYTES_PER_PART = 1_000_000, 64
ROLES = frozenset({"system", "developer", "user", "assistant", "tool", "function"})
MESSAGE_FIELDS = ("role", "content", "name", "tool_calls", "tool_call_id", "refusal")

Check = Callable[[str, Any], Any]


def weight(content: bytes) -> int:
    """Bytes that ``content`` may take once it is parsed. InvalidField for what holds more than a million values:
    of 20 MB of empty lists Python makes a gigabyte."""
    parts = sum(content.count(char) for char in (b"{", b"[", b","))
    if parts > MAX_PARTS:
        raise InvalidField(f"The body may hold {MAX_PARTS} values.", type="too_complex", field="")
    return len(content) + parts * BYTES_PER_PART


def parse(content: bytes) -> dict[str, Any]:
    """The request as it goes on: RequestError ``bad_json`` when unparsable, InvalidField for a wrong shape."""
    try:
        body = json.loads(content.decode("utf-8-sig"), parse_float=_finite, parse_constant=_finite)
    except (ValueError, RecursionError) as error:
        raise RequestError("The body is not JSON.", type="bad_json") from error
    if not isinstance(body, dict):
        raise InvalidField("The body must be a JSON object.", field="")
    if "messages" not in body:
        raise InvalidField("messages is required.", field="messages")
    # A field that is null is one that is not given, as the usual clients mean it; an unknown one is left out.
    return {
        name: check(name, body[name])
        for name, check in FIELDS.items()
        if name in body and (body[name] is not None or name == "messages")
    }


def _finite(text: str) -> float:
    """A number that JSON can hold again; ValueError for NaN, Infinity and 1e999."""
    number = float(text)
    if not math.isfinite(number):
        raise ValueError(text)
    return number


def _require(true: bool, name: str, wanted: str) -> None:
    if not true:
        raise InvalidField(f"{name} must be {wanted}.", field=name)


def _messages(name: str, value: Any) -> list[dict[str, Any]]:
    _require(isinstance(value, list) and 0 < len(value) <= MAX_MESSAGES, name, f"a list of 1 to {MAX_MESSAGES}")
    return [_message(f"{name}[{position}]", message) for position, message in enumerate(value)]


def _message(name: str, value: Any) -> dict[str, Any]:
    _require(isinstance(value, dict), name, "an object")
    role, content = value.get("role"), value.get("content")
    _require(isinstance(role, str) and role in ROLES, f"{name}.role", f"one of {', '.join(sorted(ROLES))}")
    _require(content is None or isinstance(content, str | list), f"{name}.content", "text or a list of parts")
    if isinstance(content, list):
        _require(all(isinstance(part, dict) for part in content), f"{name}.content", "text or a list of parts")
    _require(content is not None or role == "assistant", f"{name}.content", "given")
    return {field: value[field] for field in MESSAGE_FIELDS if field in value}


def _text(longest: int) -> Check:
    def check(name: str, value: Any) -> str:
        _require(isinstance(value, str) and len(value) <= longest, name, f"text of at most {longest} characters")
        return str(value)

    return check


def _number(low: float, high: float) -> Check:
    def check(name: str, value: Any) -> float:
        number = isinstance(value, int | float) and not isinstance(value, bool)
        _require(number and low <= value <= high, name, f"a number from {low:g} to {high:g}")
        return float(value) if isinstance(value, float) else int(value)

    return check


def _whole(low: int, high: int, *, clamp: bool = False) -> Check:
    def check(name: str, value: Any) -> int:
        is_whole = type(value) is int or (isinstance(value, float) and value.is_integer())
        _require(is_whole and value >= low and (clamp or value <= high), name, f"a whole number from {low} to {high}")
        return min(int(value), high)

    return check


def _of_type(kind: type, wanted: str) -> Check:
    def check(name: str, value: Any) -> Any:
        _require(isinstance(value, kind), name, wanted)
        return value

    return check


def _stop(name: str, value: Any) -> Any:
    items = [value] if isinstance(value, str) else value
    fits = isinstance(items, list) and len(items) <= 4 and all(isinstance(item, str) for item in items)
    _require(fits, name, "text, or a list of at most 4")
    return value


def _tool_choice(name: str, value: Any) -> Any:
    _require(isinstance(value, str | dict), name, "text or an object")
    return value


FIELDS: Mapping[str, Check] = {
    "messages": _messages,
    "model": _text(200),
    "stream": _of_type(bool, "true or false"),
    "stream_options": _of_type(dict, "an object"),
    "temperature": _number(0, 2),
    "top_p": _number(0, 1),
    "n": _whole(1, 1),
    "max_tokens": _whole(1, MAX_TOKENS, clamp=True),
    "max_completion_tokens": _whole(1, MAX_TOKENS, clamp=True),
    "presence_penalty": _number(-2, 2),
    "frequency_penalty": _number(-2, 2),
    "seed": _whole(-(2**63), 2**63 - 1),
    "stop": _stop,
    "user": _text(200),
    "tools": _of_type(list, "a list"),
    "tool_choice": _tool_choice,
    "parallel_tool_calls": _of_type(bool, "true or false"),
    "response_format": _of_type(dict, "an object"),
}
