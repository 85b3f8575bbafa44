"""``serve`` on a small real file system that fills up: whatever dies then costs the others nothing and comes back."""

from __future__ import annotations

import os
import signal
from contextlib import suppress
from pathlib import Path

import pytest

from tests.faults.world import small_disk
from tests.zcplatform import serving
from tests.zcplatform.serving import Home, Serve, children_of, runs, wait_for
from tests.zcplatform.test_supervisor import free_port, status_of
from zcplatform import caddy_process, supervisor
from zcplatform.programs import Program

root = pytest.mark.root
pytestmark = pytest.mark.timeout(600)


class Filler:
    """Takes all of the disk."""

    def __init__(self, disk: Path) -> None:
        self.path = disk / "filler"

    def fill(self) -> None:
        """Again and again: what is under way takes and frees a page in between."""
        with self.path.open("ab") as file:
            while (free := os.statvfs(self.path.parent)).f_bavail:
                size = free.f_bavail * free.f_frsize
                try:
                    os.posix_fallocate(file.fileno(), os.fstat(file.fileno()).st_size, size)
                except OSError:
                    file.write(b"\0" * min(size, free.f_frsize))
                    file.flush()

    def free(self) -> None:
        self.path.unlink()


@pytest.fixture(scope="module")
def disk():
    with small_disk(96) as folder:
        yield folder


@pytest.fixture(scope="module")
def home(disk):
    """Its log lies on the same disk: what can't be said there is not said."""
    (disk / "home").mkdir()
    listen = f"127.0.0.1:{free_port()}"
    return Home(disk / "home", ROUTER="caddy", CADDY_LISTEN=listen, CADDY_HTTPS="0")


def caddies_of(serve: Serve) -> set[int]:
    """Started as another program, which becomes Caddy."""
    found = set()
    for pid in children_of(serve.pid):
        with suppress(OSError):
            found |= {pid} if Path(f"/proc/{pid}/comm").read_text() == "caddy\n" else set()
    return found


@root
@pytest.mark.caddy
@pytest.mark.slow
def test_what_ends_on_a_full_disk_ends_nothing_else_and_comes_back(home, disk, monkeypatch):
    port, filler = int(home.env["ZCPLATFORM_PORT"]), Filler(disk)
    monkeypatch.setattr(serving, "LIMIT_S", 240)  # on a busy machine a cluster's start alone may take a minute
    with home.serve() as serve:
        serve.wait_until_said("workers of runs", "workers of sweeps", "web on", "router: caddy")
        runs_main, sweeps_main = serve.main_of("runs"), serve.main_of("sweeps")
        before = set(children_of(serve.pid))
        filler.fill()
        os.kill(caddies_of(serve).pop(), signal.SIGKILL)
        wait_for(lambda: caddies_of(serve) - before, "caddy, whose files are as they should be, is back")
        os.kill(sweeps_main, signal.SIGKILL)
        wait_for(lambda: not runs(sweeps_main), "a cluster ends")
        assert serve.process.poll() is None
        assert status_of(port) < 500
        filler.free()
        wait_for(lambda: serve.main_of("sweeps"), "the cluster is back")
        wait_for(home.give("sweeps", "afterwards").exists, "and works")
        assert serve.process.poll() is None
        assert serve.main_of("runs") == runs_main, "nobody else was touched"


@root
def test_a_start_on_a_full_disk_is_refused_in_one_line(home, disk):
    filler = Filler(disk)
    filler.fill()
    try:
        refused = home.manage("serve", "--port", str(free_port()))
    finally:
        filler.free()
    assert refused.returncode == 2
    assert refused.stderr.strip().splitlines() == [
        f"CommandError: The disk of {home.folder} is full (0 kB are free). Make room, then start again."
    ]


@root
def test_a_program_whose_files_can_not_be_made_waits_and_is_started_when_they_can(disk, caplog):
    filler = Filler(disk)
    made = disk / "made"
    lacking = Program("lacking", ("sleep", "60"), lambda: True, "", prepare=lambda: made.write_bytes(b"x" * 8192))
    others = Program("other", ("sleep", "60"), lambda: True, "")
    looked = supervisor.Supervisor([lacking, others], lambda _line: None)
    filler.fill()
    try:
        looked._look()
        assert [child.process is None for child in looked.children] == [True, False]
        assert looked.children[0].start_at > 0
        assert "lacking could not be started" in caplog.text
        filler.free()
        looked.children[0].start_at = 0
        looked._look()
        assert [child.process is None for child in looked.children] == [False, False]
    finally:
        filler.path.unlink(missing_ok=True)
        for child in looked.children:
            child.kill()


def test_a_file_that_is_as_it_should_be_is_not_written_anew(tmp_path, settings):
    settings.HOME = tmp_path
    command = caddy_process.prepare()
    config = Path(command.argv[-1])
    first = config.stat().st_ino
    caddy_process.prepare()
    assert config.stat().st_ino == first
    config.chmod(0o644)
    caddy_process.prepare()
    assert (config.stat().st_mode & 0o777, config.stat().st_ino != first) == (0o600, True)
    config.write_text("{}")
    caddy_process.prepare()
    assert b"admin" in config.read_bytes()


def test_a_readiness_that_can_not_be_told_is_asked_again():
    answers = iter([OSError(28, "No space left on device"), True])

    def ready() -> bool:
        if isinstance(answer := next(answers), OSError):
            raise answer
        return answer

    child = supervisor.Child(Program("x", ("true",), ready, ""))
    assert [child.has_become_ready(), child.has_become_ready()] == [False, True]
