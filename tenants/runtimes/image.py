"""Images: the demo image is made from the running interpreter, every other one is on the engine or pulled.

The demo image also serves the helper containers. It needs no registry: interpreter, standard library, the shared
libraries that both link to and the demo agent, in a tar that the engine imports. Its tag is a hash of its content.
"""

from __future__ import annotations

import hashlib
import io
import os
import py_compile
import re
import subprocess
import sys
import sysconfig
import tarfile
import tempfile
from collections.abc import Iterable, Iterator
from functools import cache
from pathlib import Path
from py_compile import PycInvalidationMode
from typing import IO, Any

from django.conf import settings
from docker.utils import parse_repository_tag

from tenants.agents.demo import PROGRAM, PROGRAM_IN_IMAGE, PYTHON_IN_IMAGE
from tenants.runtimes.docker_engine import PULL_S, Engine, Refused
from tenants.states import Reason
from zcplatform.lib import child
from zcplatform.lib.errors import DependencyTimeout, Misconfigured, RunFailed

DEMO_REPOSITORY = "zcplatform-demo"
LDD_S = 30
CHANGES = [
    "ENV PATH=/usr/bin:/bin",
    "ENV PYTHONDONTWRITEBYTECODE=1",
    f'ENTRYPOINT ["{PYTHON_IN_IMAGE}", "-I", "-S"]',
    f'CMD ["{PROGRAM_IN_IMAGE}"]',
    "LABEL zcplatform.image=demo",
]
LEFT_OUT = frozenset(
    {"site-packages", "dist-packages", "test", "tests", "idlelib", "tkinter", "ensurepip", "__pycache__"}
    | {"turtledemo", "lib2to3", "pydoc_data"}
)
LEFT_OUT_MODULES = ("_tkinter.", "_test", "_ctypes_test.", "xxlimited", "_xx", "nis.")
SMALL_FILES = {
    "etc/passwd": b"root:x:0:0:root:/:/usr/sbin/nologin\nnobody:x:65534:65534:nobody:/:/usr/sbin/nologin\n",
    "etc/group": b"root:x:0:\nnogroup:x:65534:\n",
    "etc/nsswitch.conf": b"hosts: files dns\n",
    "etc/hosts": b"",
    "etc/hostname": b"",
    "etc/resolv.conf": b"",
}
FOLDERS = ("config", "data", "tenant", "tmp")
_LDD_LINE = re.compile(r"^\s+(?:(?P<name>\S+) => )?(?P<path>/\S+) \(0x[0-9a-f]+\)$", re.MULTILINE)
_REGISTRY_NAME = re.compile(r"[a-z0-9.-]+(:\d+)?/.+")

Content = dict[str, Path | bytes]


def ensure_image(engine: Engine, name: str) -> str:
    """The id of image ``name`` (or of the id given). The demo image is built when it is absent or out of date; a name
    with a registry in it is pulled when absent. RunFailed ``image_missing`` when it is not to be had."""
    if name == settings.AGENT_IMAGES["demo"] and name.startswith(f"{DEMO_REPOSITORY}:"):
        return ensure_demo_image(engine)
    if found := image_id(engine, name):
        return found
    if not name.startswith("sha256:") and _is_on_a_registry(name):
        _pull(engine, name)
        if found := image_id(engine, name):
            return found
    raise RunFailed(f"The image {name} is not on the node.", type=Reason.IMAGE_MISSING)


def ensure_demo_image(engine: Engine) -> str:
    """The id of the demo image of this interpreter and this demo agent, built when absent: about ten seconds, once."""
    tagged = f"{DEMO_REPOSITORY}:{demo_hash()[:12]}"
    if found := image_id(engine, tagged):
        return found
    return build_demo_image(engine)


def build_demo_image(engine: Engine) -> str:
    """Build and tag the demo image, whether it is there or not; returns its id."""
    tag = demo_hash()[:12]
    with tempfile.TemporaryFile() as file:
        write_tar(with_bytecode(demo_content()), file)
        file.seek(0)
        engine.call("import_image", file, DEMO_REPOSITORY, tag, changes=CHANGES, limit_s=PULL_S)
    tagged = f"{DEMO_REPOSITORY}:{tag}"
    engine.call("tag", tagged, DEMO_REPOSITORY, "latest", force=True)
    found = image_id(engine, tagged)
    if not found:
        raise RunFailed("The demo image was imported and is not there.", type=Reason.IMAGE_MISSING)
    return found


def image_facts(engine: Engine, found: str) -> dict[str, Any]:
    """Names, id and size in bytes of the image ``found``."""
    raw = engine.call("inspect_image", found)
    return {"names": sorted(raw.get("RepoTags") or []), "id": raw["Id"], "size": raw["Size"]}


def image_id(engine: Engine, name: str) -> str:
    """Empty when the engine has no such image."""
    try:
        return str(engine.call("inspect_image", name)["Id"])
    except Refused as error:
        if error.absent:
            return ""
        raise


def _is_on_a_registry(name: str) -> bool:
    """``host/path``, the host with a dot or a port in it, as the engine itself decides it."""
    host = name.partition("/")[0]
    return bool(_REGISTRY_NAME.fullmatch(name)) and ("." in host or ":" in host or host == "localhost")


def _pull(engine: Engine, name: str) -> None:
    repository, tag = parse_repository_tag(name)
    try:
        engine.call("pull", repository, tag=tag or "latest", limit_s=PULL_S)
    except DependencyTimeout:
        raise
    except RunFailed as error:
        raise RunFailed(f"The image {name} could not be pulled: {error.message}", type=Reason.IMAGE_MISSING) from error


# --- what is in the demo image --------------------------------------------------------------------------------


@cache
def demo_hash() -> str:
    """SHA-256 over names and contents of everything in the demo image; computed once per process."""
    total = hashlib.sha256("\n".join(CHANGES).encode())
    for name, source in sorted(demo_content().items()):
        data = source if isinstance(source, bytes) else source.read_bytes()
        total.update(f"{name}\0{len(data)}\0".encode())
        total.update(data)
    return total.hexdigest()


def demo_content() -> Content:
    """Path in the image (without the leading slash) -> file on this host, or bytes."""
    version = f"python{sys.version_info.major}.{sys.version_info.minor}"
    interpreter = Path(sys._base_executable).resolve()  # type: ignore[attr-defined]
    modules = dict(_standard_library(version))
    binaries = [interpreter, *(source for source in modules.values() if source.suffix == ".so")]
    return {
        PYTHON_IN_IMAGE.lstrip("/"): interpreter,
        **modules,
        **shared_libraries(binaries),
        PROGRAM_IN_IMAGE.lstrip("/"): PROGRAM,
        **SMALL_FILES,
    }


def _standard_library(version: str) -> Iterator[tuple[str, Path]]:
    """Below ``/usr/lib``, where an interpreter in ``/usr/bin`` looks for it wherever it came from."""
    paths = sysconfig.get_paths(vars={"installed_platbase": sys.base_exec_prefix, "platbase": sys.base_exec_prefix})
    roots = {Path(paths["stdlib"]), Path(paths["platstdlib"])}
    for root in sorted(roots):
        for folder, inner, files in os.walk(root):
            inner[:] = [name for name in inner if name not in LEFT_OUT and not name.startswith("config-")]
            for source in (Path(folder, name) for name in files if _wanted(name)):
                yield f"usr/{sys.platlibdir}/{version}/{source.relative_to(root)}", source.resolve()


def _wanted(name: str) -> bool:
    return name.endswith((".py", ".so")) and not name.startswith(LEFT_OUT_MODULES)


def shared_libraries(binaries: Iterable[Path]) -> Content:
    """What ``ldd`` names for ``binaries``: the loader at its own path, the rest in the folder that holds libc, which
    every loader searches."""
    command = [child.find("ldd") or "/usr/bin/ldd", *map(str, binaries)]
    listing = subprocess.run(command, capture_output=True, text=True, timeout=LDD_S, check=False).stdout
    found = dict(parse_ldd(listing))
    libc = next((path for name, path in found.items() if name.startswith("libc.")), None)
    if libc is None:
        raise Misconfigured("ldd does not tell which C library this interpreter uses.")
    folder = Path(libc).parent
    for extra in ("libnss_dns.so.2", "libnss_files.so.2", "libgcc_s.so.1"):  # opened by name, not linked to
        if (folder / extra).exists():
            found[extra] = str(folder / extra)
    content: Content = {}
    for name, path in found.items():
        target = name if name.startswith("/") else f"{folder}/{name}"
        content[target.lstrip("/")] = Path(path).resolve()
    return content


def parse_ldd(listing: str) -> Iterator[tuple[str, str]]:
    """(name or absolute path of the loader, path on this host) for each library in what ``ldd`` prints."""
    for line in _LDD_LINE.finditer(listing):
        yield line["name"] or line["path"], line["path"]


def with_bytecode(content: Content) -> Content:
    """``content`` and the bytecode of its standard library: an agent on a read-only root can't keep what it compiles,
    and would spend 0.4 s of CPU on it at every start. Not part of the hash: it follows from the rest."""
    compiled: Content = {}
    with tempfile.TemporaryDirectory() as folder:
        target = Path(folder, "module.pyc")
        for name, source in content.items():
            if isinstance(source, Path) and source.suffix == ".py":
                mode = PycInvalidationMode.UNCHECKED_HASH
                if py_compile.compile(str(source), str(target), f"/{name}", quiet=2, invalidation_mode=mode):
                    compiled[_bytecode_name(name)] = target.read_bytes()
    return content | compiled


def _bytecode_name(name: str) -> str:
    path = Path(name)
    return str(path.parent / "__pycache__" / f"{path.stem}.{sys.implementation.cache_tag}.pyc")


def write_tar(content: Content, file: IO[bytes]) -> None:
    """The same content gives the same bytes: sorted, no times, no owners, modes of our own."""
    with tarfile.open(fileobj=file, mode="w", format=tarfile.GNU_FORMAT) as tar:
        for folder in sorted(_folders(content)):
            entry = tarfile.TarInfo(folder)
            entry.type, entry.mode = tarfile.DIRTYPE, 0o1777 if folder == "tmp" else 0o755
            tar.addfile(entry)
        for name, source in sorted(content.items()):
            data = source if isinstance(source, bytes) else source.read_bytes()
            entry = tarfile.TarInfo(name)
            entry.size, entry.mode = len(data), 0o755 if _is_program(name, source) else 0o644
            tar.addfile(entry, io.BytesIO(data))


def _folders(content: Content) -> set[str]:
    parents = {str(parent) for name in content for parent in Path(name).parents}
    return (parents | set(FOLDERS)) - {"."}


def _is_program(name: str, source: Path | bytes) -> bool:
    """What a package marks as a program stays one; a standard library's modes are its distributor's whim."""
    marked = name.startswith("opt/") and isinstance(source, Path) and bool(source.stat().st_mode & 0o111)
    return marked or name.startswith(("usr/bin/", "bin/")) or ".so" in Path(name).name
