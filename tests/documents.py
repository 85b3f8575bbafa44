"""What the documents claim, as functions over their text. Each answers with what is wrong, as readable lines."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from tests.architecture import ROOT
from zcplatform.platform_toml import PlatformToml

LINK = re.compile(r"\[[^\]]*\]\(([^)\s]+)\)")
INLINE_PATH = re.compile(r"`((?:[\w.-]+/)+[\w.-]+\.(?:py|md|toml|json|svg|css)|[\w-]+\.(?:md|toml))`")
FENCE = re.compile(r"^```.*?^```$", re.MULTILINE | re.DOTALL)
SILENT = re.compile(r"--(?:yes|verify-only|help)\b")
KIND_IMAGE = "IMAGE_<KIND>"


def documents() -> list[Path]:
    """Every Markdown file that a reader gets."""
    return [*sorted(ROOT.glob("*.md")), *sorted((ROOT / "docs").rglob("*.md"))]


def anchors(text: str) -> set[str]:
    """The ends of links to the headings of ``text``, as the usual renderers make them."""
    titles = re.findall(r"^#+ (.+)$", FENCE.sub("", text), re.MULTILINE)
    return {re.sub(r"[^\w\s-]", "", title.lower()).strip().replace(" ", "-") for title in titles}


def broken_links(text: str, path: Path) -> list[str]:
    """Links to files or headings that are not there; addresses on the web are left alone."""
    broken = []
    for target in LINK.findall(FENCE.sub("", text)):
        name, _, anchor = target.partition("#")
        file = (path.parent / name).resolve() if name else path
        if re.match(r"[a-z]+:", target):
            continue
        if not file.exists() or (anchor and anchor not in anchors(file.read_text())):
            broken.append(f"{path.name}: {target}")
    return broken


def absent_paths(text: str, path: Path, *, invented: Iterable[str] = ()) -> list[str]:
    """Files that the text names in passing and that are not there; ``invented`` are the examples' own names."""
    named = [name for name in INLINE_PATH.findall(text) if not any(word in name for word in invented)]
    return [f"{path.name}: {name}" for name in named if not (ROOT / name).exists()]


def rows(text: str) -> dict[str, list[str]]:
    """The cells of every table row whose first cell begins with a name in backquotes, by that name."""
    found = {}
    for line in text.splitlines():
        cells = [cell.strip() for cell in line.strip().strip("|").split(" | ")]
        name = re.match(r"`([^`\s]+)", cells[0]) if line.startswith("| ") else None
        if name:
            found[name[1]] = cells
    return found


def settings_read(source: str) -> dict[str, ast.expr | None]:
    """The settings that ``source`` reads from the environment, each with the expression of its default."""
    found: dict[str, ast.expr | None] = {}
    for node in ast.walk(ast.parse(source)):
        if not (isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.args):
            continue
        owner, first = node.func.value, node.args[0]
        if isinstance(owner, ast.Name) and owner.id in {"env", "keys"} and isinstance(first, ast.Constant):
            name = KIND_IMAGE if first.value.startswith("IMAGE_") else first.value
            found[name] = node.args[1] if owner.id == "env" and len(node.args) > 1 and name != KIND_IMAGE else None
    return found


def default_shown(default: ast.expr | None) -> str:
    """How a row writes this default; empty when it depends on more than the defaults of ``platform.toml``."""
    if default is None:
        return ""
    try:
        value = eval(compile(ast.Expression(default), "default", "eval"), {"TOML": PlatformToml()})
    except NameError:
        return ""
    return _shown(value)


def _shown(value: Any) -> str:
    if value in ("", []):
        return "none"
    if isinstance(value, bool):
        return f"`{int(value)}`"
    if isinstance(value, list):
        return f"`{','.join(value)}`"
    return f"`{value[0]}-{value[1]}`" if isinstance(value, tuple) else f"`{value}`"


def wrong_defaults(read: dict[str, ast.expr | None], listed: dict[str, list[str]]) -> Iterator[str]:
    """Rows whose default is not the code's."""
    for name, default in read.items():
        shown = default_shown(default)
        if shown and name in listed and shown not in listed[name][1]:
            yield f"{name}: {listed[name][1]} instead of {shown}"


def unanswered(text: str, asking: Iterable[str]) -> list[str]:
    """Lines of blocks that are there to be pasted, and whose command, one of ``asking``, would ask for an answer."""
    command = re.compile(rf"(?:zcplatform|manage\.py) ({'|'.join(asking)})\b(?!-)")
    lines = [line for block in FENCE.findall(text) for line in block.splitlines()]
    asked = [line for line in lines if (found := command.search(line)) and not SILENT.search(line[found.end() :])]
    return [line.strip() for line in asked]


def mapped(readme: str) -> list[str]:
    """The files and folders of the README's map."""
    block = re.search(r"^## Map of the repository\n+```\n(.*?)^```$", readme, re.MULTILINE | re.DOTALL)
    return [line.split()[0] for line in block[1].splitlines() if line.strip()] if block else []
