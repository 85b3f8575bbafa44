"""Keeps text literal where a program fills ``${NAME}`` in its configuration file from the environment.

Each dollar sign of such a text becomes a reference to a variable that holds a dollar sign. That works in one pass,
whatever names the program recognises and however it wants a dollar escaped.
"""

from __future__ import annotations

from typing import Any

ENVIRONMENT = {"ZC_DOLLAR": "$"}
_REFERENCE = "${ZC_DOLLAR}"


def literal(value: Any) -> Any:
    """A copy of a JSON-like value that means the same after the program has filled it in."""
    if isinstance(value, str):
        return value.replace("$", _REFERENCE) if "${" in value else value
    if isinstance(value, dict):
        return {key: literal(item) for key, item in value.items()}
    if isinstance(value, list):
        return [literal(item) for item in value]
    return value
