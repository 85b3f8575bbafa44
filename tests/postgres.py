"""A PostgreSQL of the tests' own: made in a temporary folder, reached by its socket there alone, gone afterwards.

``python -m tests.servers make test`` runs a command on it.
"""

from __future__ import annotations

import os
import pwd
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import quote

from django.db import connections

USER = "zc"
# Nothing here outlives the run, so nothing has to reach the disk.
_SETTINGS = {
    "listen_addresses": "",
    "fsync": "off",
    "synchronous_commit": "off",
    "full_page_writes": "off",
    "max_connections": "300",
    "timezone": "UTC",
}


def programs() -> Path | None:
    """The folder of the newest server's programs; None when there is none."""
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"), key=lambda path: int(path.parts[-3]))
    return found[-1].parent if found else None


@contextmanager
def cluster() -> Iterator[str]:
    """A cluster with an empty database; its address for ``ZCPLATFORM_DATABASE_URL``."""
    bin = programs()
    if bin is None:
        raise RuntimeError("PostgreSQL's server is not installed. On Debian and Ubuntu: apt-get install postgresql")
    folder = Path(tempfile.mkdtemp(prefix="zcpg-"))
    owner = _hand_over(folder)
    data = folder / "data"
    settings = {**_SETTINGS, "unix_socket_directories": str(folder)}
    try:
        run = {"check": True, "stdout": subprocess.DEVNULL, "user": owner, "cwd": folder}
        subprocess.run([bin / "initdb", "-D", data, "--auth=trust", f"--username={USER}", "-E", "UTF8"], **run)
        with (data / "postgresql.conf").open("a") as file:
            file.writelines(f"{name} = '{value}'\n" for name, value in settings.items())
        subprocess.run([bin / "pg_ctl", "-D", data, "-l", folder / "log", "-w", "start"], **run)
        try:
            subprocess.run([bin / "createdb", "-h", folder, "-U", USER, "zc"], **run)
            yield address(folder, "zc")
        finally:
            subprocess.run([bin / "pg_ctl", "-D", data, "-m", "immediate", "-w", "stop"], **run)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def address(socket_folder: Path, name: str) -> str:
    return f"postgres://{USER}@/{name}?host={quote(str(socket_folder))}"


def database_url() -> str:
    """The address of the database that this test uses, for a process that it starts."""
    settings = connections["default"].settings_dict
    if connections["default"].vendor == "sqlite":
        return f"sqlite:///{settings['NAME']}"
    return f"postgres://{settings['USER']}@/{settings['NAME']}?host={quote(settings['OPTIONS']['host'])}"


def _hand_over(folder: Path) -> int:
    """PostgreSQL refuses to run as root: then Debian's own user gets the folder."""
    if os.geteuid() != 0:
        return os.geteuid()
    owner = pwd.getpwnam("postgres")
    os.chown(folder, owner.pw_uid, owner.pw_gid)
    folder.chmod(0o711)
    return owner.pw_uid
