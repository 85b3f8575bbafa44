"""Started in a folder that others may write to, the platform runs nothing of what lies there."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.architecture import ROOT
from tests.backups.place import Place
from tests.zcplatform.serving import Home, tree_of
from zcplatform.lib import child

PATIENCE_S = 300
PLANTED = (
    *("gunicorn", "uvicorn", "uvicorn_worker", "django", "django_q", "backups", "tenants", "monitoring", "accounts"),
    *("redis", "psycopg", "asyncio", "json", "structlog", "sitecustomize", "usercustomize", "gunicorn_conf"),
)


def plant(folder: Path) -> Path:
    """A folder of everybody's, whose modules and programs leave a mark; where that would be."""
    mark = folder / "mark"
    folder.mkdir()
    folder.chmod(0o777)
    code = f"open({str(mark)!r}, 'a').write(__name__)\n"
    for name in PLANTED:
        (folder / name).mkdir()
        (folder / name / "__init__.py").write_text(code)
        (folder / name / "__main__.py").write_text(code)
    (folder / "gunicorn.conf.py").write_text(code)
    for name in ("caddy", "python3", "python", "iptables-restore", "pg_dump", "ldd"):
        (folder / name).write_text(f"#!/bin/sh\necho {name} >> {mark}\n")
        (folder / name).chmod(0o755)
    return mark


@pytest.mark.parametrize("way", [[str(ROOT / "manage.py")], ["-m", "zcplatform"]])
def test_serve_runs_nothing_of_the_folder_that_it_is_started_in(tmp_path, way):
    port = _free_port()
    (tmp_path / "home").mkdir()
    home = Home(tmp_path / "home", ROUTER="direct", PORT=str(port))
    mark, log = plant(tmp_path / "open"), tmp_path / "log"
    env = {**home.env, "PATH": f":.:{tmp_path / 'open'}:{os.environ['PATH']}"}
    with log.open("w") as out:
        served = subprocess.Popen(
            [sys.executable, *way, "serve"], cwd=tmp_path / "open", env=env, stdout=out, stderr=subprocess.STDOUT
        )
    try:
        until = time.monotonic() + PATIENCE_S
        while not all(line in log.read_text() for line in ("web on", "workers of runs", "workers of sweeps")):
            assert served.poll() is None, log.read_text()
            assert not mark.exists(), mark.read_text()
            assert time.monotonic() < until, log.read_text()
            time.sleep(0.1)
        argvs = [Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0") for pid in tree_of(served.pid)]
        assert any(b"zcplatform.web" in argv for argv in argvs)
        assert not mark.exists(), mark.read_text()
    finally:
        served.terminate()
        served.wait(60)


def test_what_lies_in_an_unpacked_backup_is_data_and_no_program(tmp_path):
    """The process that looks at one stands in it."""
    home = Place(tmp_path / "home").bootstrap()
    mark = plant(tmp_path / "open")
    env = {**home.env, "PYTHONPATH": child.python_path()}
    order = '{"rows": {}, "environment": {}, "note": null}'
    subprocess.run(child.module("backups.staged"), cwd=tmp_path / "open", env=env, input=order.encode(), timeout=120)
    assert not mark.exists(), mark.read_text()


def _free_port() -> int:
    import socket

    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])


def test_nothing_of_ours_is_started_so_that_the_working_directory_counts():
    """``-m`` only behind ``-P``, and no program by a name that the caller's PATH resolves."""
    found = []
    for path in ROOT.glob("*/**/*.py"):
        if path.parts[len(ROOT.parts)] in (".venv", "tests", "deploy"):
            continue
        text = path.read_text()
        if path.name != "child.py" and ('sys.executable, "-m"' in text or "shutil.which" in text):
            found.append(str(path))
    assert found == []


def test_the_callers_relative_entries_are_left_out_of_the_search_path(monkeypatch):
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(["", ".", "here", "/srv/extra", ""]))
    assert child.python_path().split(os.pathsep) == [str(ROOT), "/srv/extra"]
    monkeypatch.delenv("PYTHONPATH")
    assert child.python_path() == str(ROOT)


def test_a_program_is_not_taken_from_a_folder_that_others_may_write_to(tmp_path, monkeypatch):
    plant(tmp_path / "open")
    (tmp_path / "ours").mkdir(mode=0o755)
    (tmp_path / "ours" / "caddy").write_text("#!/bin/sh\n")
    (tmp_path / "ours" / "caddy").chmod(0o755)
    monkeypatch.chdir(tmp_path / "open")
    monkeypatch.setenv("PATH", os.pathsep.join(["", ".", str(tmp_path / "open"), str(tmp_path / "absent")]))
    assert child.find("caddy") is None
    monkeypatch.setenv("PATH", os.pathsep.join(["", str(tmp_path / "open"), str(tmp_path / "ours")]))
    assert child.find("caddy") == str(tmp_path / "ours" / "caddy")


@pytest.mark.root
def test_nor_from_one_that_belongs_to_another_user(tmp_path, monkeypatch):
    (tmp_path / "theirs").mkdir(mode=0o755)
    (tmp_path / "theirs" / "caddy").write_text("#!/bin/sh\n")
    (tmp_path / "theirs" / "caddy").chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path / "theirs"))
    assert child.find("caddy") is not None
    os.chown(tmp_path / "theirs", 200_777, 200_777)
    assert child.find("caddy") is None
