"""The API's reference as Markdown, made from the OpenAPI document: docs/api-reference.md."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from zcplatform import api_docs
from zcplatform.lib.apidocs import ERRORS

HEAD = """# API reference

Made from the API's own document by `manage.py api_reference --output docs/api-reference.md`; a test keeps it in step.
How to begin: [API](api-examples.md). Who may do what: [roles](roles.md).

Every path stands below the platform's address. A field in *italics* may be left out. Errors common to many routes are
in the table at the end.
"""


def text() -> str:
    """The whole page."""
    whole = api_docs.document()
    parts = [HEAD]
    for section in api_docs.sections(whole):
        parts.append(f"\n## {section['tag'].capitalize()}\n")
        parts += ["\n".join(_route(route)) for route in section["routes"]]
    parts.append(_errors())
    return "\n".join(parts).rstrip() + "\n"


def _route(route: dict[str, Any]) -> Iterator[str]:
    yield f"\n### {route['method']} {route['path']}\n"
    yield f"**{route['summary']}.** {_one_line(route['description'])}\n"
    yield from _table(
        "Parameter", [{**item, "name": f"{item['name']} ({item['place']})"} for item in route["parameters"]]
    )
    yield from _table("Field", route["fields"])
    for answer in route["answers"]:
        if not answer["error"]:
            yield f"Answer {answer['status']}{':' if answer['fields'] else ', without a body.'}\n"
            yield from _table("Field", answer["fields"])
    named = [answer for answer in route["answers"] if answer["error"] and "Types:" in answer["description"]]
    yield from (f"- {answer['status']}: {answer['description'].partition('Types: ')[2]}" for answer in named)


def _table(head: str, items: list[dict[str, Any]]) -> Iterator[str]:
    if not items:
        return
    yield f"| {head} | type | meaning |\n| --- | --- | --- |"
    for item in items:
        name = f"`{item['name']}`" if item["required"] else f"*`{item['name']}`*"
        yield f"| {name} | {_one_line(item['type'])} | {_one_line(item['description'])} |"
    yield ""


def _errors() -> str:
    lines = ["\n## Errors\n", "| status | meaning |\n| --- | --- |"]
    lines += [f"| {status} | {words} |" for status, words in sorted(ERRORS.items())]
    return "\n".join(lines)


def _one_line(words: str) -> str:
    return " ".join(words.split()).replace("|", "\\|")
