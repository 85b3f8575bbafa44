"""The house rules as functions over source text. Each answers with the violations it sees, as readable lines."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator, Mapping
from functools import cache
from importlib.metadata import packages_distributions
from itertools import pairwise
from pathlib import Path
from re import _parser as re_parser
from re._constants import MAX_REPEAT, MIN_REPEAT
from re._parser import SubPattern
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
LAYERS = [
    "zcplatform.lib",
    "audit",
    "accounts",
    "vault",
    "tenants",
    "gateway",
    "backups",
    "monitoring",
    "billing",
    "zcplatform",
]
PACKAGES = [name for name in LAYERS if "." not in name]
MAX_LINES = 400

SHELL_CALLS = {
    "os.system",
    "os.popen",
    "subprocess.getoutput",
    "subprocess.getstatusoutput",
    "pty.spawn",
    "asyncio.create_subprocess_shell",
}
SHELLS = {"sh", "bash", "dash", "/bin/sh", "/bin/bash"}
SQL_CALLS = {"execute", "executemany", "executescript", "objects.raw", "RunSQL"}
# Registries that a reader may not have, and folders of the machine something was written on.
FOREIGN = re.compile(
    r"pypi\.org|pythonhosted\.org|npmjs\.(?:org|com)|registry-1\.docker|index\.docker|deb\.debian\.org"
    r"|(?<![\w./-])/(?:work|root|home/\w+|opt/(?:wheels|pypi))/"
)


def product_files() -> list[Path]:
    """Every Python file that is installed, and ``manage.py``."""
    found = [path for name in PACKAGES for path in sorted((ROOT / name).rglob("*.py"))]
    return [*found, ROOT / "manage.py"]


def tracked_files() -> list[Path]:
    """What a reader of the repository gets."""
    # The checkout may belong to another user, which git would refuse.
    command = ["git", "-c", "safe.directory=*", "ls-files", "-z"]
    listed = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout
    return [path for name in listed.split("\0") if name and (path := ROOT / name).is_file()]


def module_of(path: Path) -> str:
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def layer_of(module: str) -> int | None:
    """The layer's position; None for what is not ours."""
    if module == "zcplatform.lib" or module.startswith("zcplatform.lib."):
        return 0
    top = module.split(".")[0]
    return LAYERS.index(top) if top in LAYERS else None


def imports(source: str, module: str, *, is_package: bool = False) -> Iterator[tuple[int, str]]:
    """Line and absolute name of everything imported, wherever the statement stands."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            keep = len(module.split(".")) - node.level + (1 if is_package else 0)
            base = [*module.split(".")[:keep]] if node.level else []
            prefix = ".".join([*base, *([node.module] if node.module else [])])
            yield from ((node.lineno, f"{prefix}.{alias.name}") for alias in node.names)


def layer_violations(source: str, module: str, *, is_package: bool = False) -> list[str]:
    """Imports of what stands to the right of ``module``, and of the tests."""
    here = layer_of(module)
    top = len(LAYERS) - 1 if here is None else here
    return [
        f"{module}:{line} imports {name}"
        for line, name in imports(source, module, is_package=is_package)
        if name.split(".")[0] == "tests" or (layer_of(name) or 0) > top
    ]


def declared() -> set[str]:
    """The distributions that ``pyproject.toml`` names for the product, extras among them, in one spelling."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    extras = project["optional-dependencies"].values()
    lines = [*project["dependencies"], *(line for extra in extras for line in extra)]
    return {_spelled(re.match(r"[A-Za-z0-9._-]+", line)[0]) for line in lines}  # type: ignore[index]


def undeclared_imports(source: str, module: str, known: set[str]) -> list[str]:
    """Imports of what only comes along with something else today."""
    beside = {path.stem for path in (ROOT / module.replace(".", "/")).parent.glob("*.py")}  # a program of one folder
    ours = {"zcplatform", *PACKAGES, *beside, *sys.stdlib_module_names}
    found = [(line, name.split(".")[0]) for line, name in imports(source, module)]
    return [
        f"{module}:{line} imports {top}"
        for line, top in found
        if top and top not in ours and not {_spelled(name) for name in _distributions().get(top, [])} & known
    ]


def _spelled(distribution: str) -> str:
    return re.sub(r"[-_.]+", "-", distribution).lower()


@cache
def _distributions() -> Mapping[str, list[str]]:
    return packages_distributions()


def _dotted(node: ast.AST) -> str:
    if isinstance(node, ast.Attribute):
        return f"{_dotted(node.value)}.{node.attr}"
    return node.id if isinstance(node, ast.Name) else ""


def _is_shell_list(node: ast.AST) -> bool:
    if not isinstance(node, ast.List | ast.Tuple):
        return False
    words = [item.value if isinstance(item, ast.Constant) else None for item in node.elts]
    return any(a in SHELLS and isinstance(b, str) and re.fullmatch(r"-\w*c", b) for a, b in pairwise(words))


def _shell_use(node: ast.AST) -> str:
    if isinstance(node, ast.Call):
        if _dotted(node.func) in SHELL_CALLS:
            return _dotted(node.func)
        shell = next((k.value for k in node.keywords if k.arg == "shell"), None)
        if shell is not None and not (isinstance(shell, ast.Constant) and shell.value is False):
            return "shell="
    if isinstance(node, ast.ImportFrom):
        return next((n for a in node.names if (n := f"{node.module}.{a.name}") in SHELL_CALLS), "")
    if (
        isinstance(node, ast.Constant)
        and isinstance(node.value, str)
        and re.search(r"\b(?:ba|da)?sh -\w*c\b", node.value)
    ):
        return "sh -c in a string"
    return "sh -c in a list" if _is_shell_list(node) else ""


def shell_violations(source: str, module: str) -> list[str]:
    """Every way in which a shell could get to read a string."""
    nodes = ast.walk(ast.parse(source))
    return [f"{module}:{getattr(n, 'lineno', 0)} {what}" for n in nodes if (what := _shell_use(n))]


def _is_built_text(node: ast.AST) -> bool:
    """A string put together at run time: f-string, ``%``, ``+`` or ``format``."""
    if isinstance(node, ast.JoinedStr):
        return any(isinstance(part, ast.FormattedValue) for part in node.values)
    if isinstance(node, ast.BinOp):
        return True
    return isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr == "format"


def _unsafe_text(node: ast.AST) -> str:
    if not isinstance(node, ast.Call):
        return ""
    name = _dotted(node.func).split(".")[-1] or (node.func.attr if isinstance(node.func, ast.Attribute) else "")
    if name in {"mark_safe", "SafeString", "RawSQL"}:
        return name
    if name == "extra" and isinstance(node.func, ast.Attribute):
        return ".extra()"
    called = {name, ".".join(_dotted(node.func).split(".")[-2:])}
    if called & SQL_CALLS and any(_is_built_text(argument) for argument in node.args):
        return f"{name}() of a string built at run time"
    return ""


def unsafe_text_violations(source: str, module: str) -> list[str]:
    """HTML that is declared safe, and SQL that is put together from parts."""
    nodes = ast.walk(ast.parse(source))
    return [f"{module}:{getattr(n, 'lineno', 0)} {what}" for n in nodes if (what := _unsafe_text(n))]


def _repeats_a_repetition(parsed: Any, inside: bool = False) -> bool:
    """Whether something without a bound is repeated without a bound, in what ``re`` makes of a pattern."""
    if isinstance(parsed, tuple) and parsed and parsed[0] in (MAX_REPEAT, MIN_REPEAT):
        endless = parsed[1][1] > 1_000
        return (endless and inside) or _repeats_a_repetition(parsed[1][2], inside or endless)
    if isinstance(parsed, tuple | list | SubPattern):
        return any(_repeats_a_repetition(part, inside) for part in parsed)
    return False


def _pattern_of(node: ast.AST) -> str | bytes | None:
    """The pattern of a call of ``re``; what is put into an f-string counts as one letter."""
    if not (isinstance(node, ast.Call) and node.args and _dotted(node.func).startswith("re.")):
        return None
    given = node.args[0]
    if isinstance(given, ast.JoinedStr):
        return "".join(part.value if isinstance(part, ast.Constant) else "x" for part in given.values)
    return given.value if isinstance(given, ast.Constant) and isinstance(given.value, str | bytes) else None


def slow_patterns(source: str, module: str) -> list[str]:
    """Regular expressions that a hostile text may keep busy for longer than its length."""
    found = [(n.lineno, p) for n in ast.walk(ast.parse(source)) if (p := _pattern_of(n)) and isinstance(n, ast.Call)]
    return [
        f"{module}:{line} {pattern!r}" for line, pattern in found if _repeats_a_repetition(re_parser.parse(pattern))
    ]


def template_violations(source: str, name: str) -> list[str]:
    """Templates that switch escaping off, or run script from an attribute."""
    pattern = re.compile(r"\|\s*safe(?:seq)?\b|autoescape\s+off|\son\w+\s*=|javascript:", re.IGNORECASE)
    lines = enumerate(source.splitlines(), 1)
    return [f"{name}:{number} {found[0].strip()}" for number, line in lines if (found := pattern.search(line))]


def untested_commands(commands: list[str], tests: str) -> list[str]:
    """Management commands that no test calls by name."""
    return [name for name in commands if not re.search(_call_of(name), tests)]


def _call_of(command: str) -> str:
    spelt, by = command.replace("_", "[_-]"), r"call_command|manage|run_command|\.do|\.run"
    return rf"""(?:{by})\(\s*["']{spelt}["']|["']manage\.py["']\)?,\s*["']{spelt}["']"""


def undocumented(source: str, module: str) -> list[str]:
    """Public functions without a docstring, and the module if it has none."""
    missing = [] if ast.get_docstring(ast.parse(source)) else [f"{module} (the module)"]
    return missing + [
        f"{module}:{node.lineno} {node.name}"
        for node in ast.parse(source).body
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
        and not node.name.startswith("_")
        and not ast.get_docstring(node)
    ]


def foreign_names(text: str, name: str) -> list[str]:
    """Registry hosts and paths of one machine."""
    lines = enumerate(text.splitlines(), 1)
    return [f"{name}:{number} {found[0]}" for number, line in lines if (found := FOREIGN.search(line))]
