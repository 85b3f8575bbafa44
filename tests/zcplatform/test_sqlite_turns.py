"""Writers take turns at SQLite: none is left waiting until its time is over, a turn ends with its holder, and no turn
that goes wrong keeps anybody from writing for longer than SQLite's own lock would."""

from __future__ import annotations

import gc
import os
import signal
import sqlite3
import subprocess
import sys
import threading
import time
from contextlib import closing, contextmanager
from pathlib import Path

import pytest
from django.db import connection, connections, transaction
from django.db.utils import ConnectionHandler, IntegrityError, OperationalError

from accounts.models import ApiKey, RateWindow
from tests import processes
from zcplatform.lib import clock
from zcplatform.lib.sqlite3.base import SUFFIX, Line, Turns, turns_at

pytestmark = pytest.mark.skipif(connection.vendor != "sqlite", reason="PostgreSQL has many writers")

PATIENCE_S = 60
# A program of Django's with one database. It does what the words on its input say, and answers each.
PROGRAM = """
import os, sys, threading, time
from django.conf import settings
settings.configure(DATABASES={"default": {"ENGINE": "zcplatform.lib.sqlite3", "NAME": sys.argv[1], "OPTIONS": {
    "timeout": float(sys.argv[2]), "transaction_mode": "IMMEDIATE", "init_command": "PRAGMA journal_mode=WAL"}}})
import django
django.setup()
from django.db import OperationalError, connection, connections, transaction
from zcplatform.lib.sqlite3.base import turns_at

def write(kind="written"):
    try:
        with transaction.atomic(), connection.cursor() as cursor:
            cursor.execute("INSERT INTO rows (kind) VALUES (%s)", [kind])
        return kind
    except OperationalError as error:
        return str(error)

def fork(act):
    pid = os.fork()
    if not pid:
        connections.close_all()
        os._exit(0 if act() == "written" else 3)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])

def beside(act):
    "Fork while one thread has the turn, and not yet SQLite's lock, which no child gets over; another waits in line."
    turns, begun, end = turns_at(sys.argv[1]), threading.Event(), threading.Event()
    def hold():
        turns.take(time.monotonic())
        begun.set()
        end.wait()
        turns.give()
    threads = [threading.Thread(target=hold), threading.Thread(target=write)]
    threads[0].start()
    begun.wait()
    threads[1].start()
    time.sleep(0.2)
    pid = os.fork()
    if not pid:
        mine = turns_at(sys.argv[1])
        os._exit(0 if mine.take(time.monotonic() + 20) and not mine.give() and act() == "written" else 3)
    end.set()
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])

block = transaction.atomic()
for word in map(str.strip, sys.stdin):
    if word == "begin":
        block.__enter__()
        print("begun", flush=True)
    elif word == "end":
        block.__exit__(None, None, None)
        print("ended", flush=True)
    elif word == "write":
        print(write(), flush=True)
    elif word == "fork":
        print(fork(write), flush=True)
    elif word == "fork and leave":
        if not os.fork():
            os.close(0)
            os.close(1)
            time.sleep(60)
            os._exit(0)
        print("left", flush=True)
    elif word == "fork beside":
        print(beside(write), flush=True)
    elif word == "fork and close":
        print(fork(lambda: "written"), flush=True)
"""


class Program:
    def __init__(self, process):
        self.process = process

    def say(self, word):
        self.process.stdin.write(word + "\n")
        self.process.stdin.flush()

    def hear(self):
        return self.process.stdout.readline().strip()

    def ask(self, word):
        self.say(word)
        return self.hear()

    def kill(self):
        self.process.kill()
        self.process.wait(PATIENCE_S)


@contextmanager
def program(path, timeout_s=20.0):
    argv = [sys.executable, "-c", PROGRAM, str(path), str(timeout_s)]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    process = subprocess.Popen(argv, start_new_session=True, **pipes)
    try:
        yield Program(process)
    finally:
        os.killpg(process.pid, signal.SIGKILL)  # with what it forked
        process.communicate()


def made(path):
    with closing(sqlite3.connect(path)) as database:
        database.execute("PRAGMA journal_mode=WAL")
        database.execute("CREATE TABLE rows (kind TEXT)")
        database.commit()
    return path


@pytest.fixture
def path(tmp_path):
    return made(tmp_path / "one.db")


@pytest.fixture
def opened(path, django_db_blocker):
    """Opens it here as an alias of its own, by a given name and with given options; closed at the end."""
    aliases = []

    def open_it(name=path, **options):
        alias = f"turns{len(aliases)}"
        aliases.append(alias)
        given = {"timeout": 0.2, "transaction_mode": "IMMEDIATE", **options}
        connections.databases[alias] = {**connections.databases["default"], "NAME": name, "OPTIONS": given}
        return connections[alias]

    with django_db_blocker.unblock():
        yield open_it
    for alias in aliases:
        connections[alias].close()
        del connections[alias]
        del connections.databases[alias]


def is_free(path):
    """Whether another process would get a turn at once; it tells by a lock that it takes."""

    def take():
        assert Turns(str(path)).take(time.monotonic())

    return processes.run(take) == 0


# --- the turn and its holder ---------------------------------------------------------------------------------


def test_who_gets_no_turn_gets_sqlites_own_error_and_then_their_turn(path):
    with program(path) as holder, program(path, 0.3) as other:
        assert holder.ask("begin") == "begun"
        assert other.ask("write") == "database is locked"
        assert holder.ask("end") == "ended"
        assert other.ask("write") == "written"


def test_who_waited_in_vain_leaves_the_line(path):
    mine = turns_at(str(path))
    with program(path) as holder:
        assert holder.ask("begin") == "begun"
        assert mine.take(time.monotonic() + 0.1) is False
        assert holder.ask("end") == "ended"
    assert mine.take(time.monotonic())
    mine.give()


def test_a_killed_holder_frees_its_turn_even_when_a_child_of_it_lives_on(path):
    with program(path) as holder:
        assert holder.ask("begin") == "begun"
        assert holder.ask("fork and leave") == "left"
        assert not is_free(path)
        holder.kill()
        assert is_free(path)


def test_a_frozen_holder_delays_the_others_by_their_timeout_and_goes_on_where_it_was(path):
    with program(path) as holder, program(path, 0.3) as other:
        assert holder.ask("begin") == "begun"
        holder.process.send_signal(signal.SIGSTOP)
        assert [other.ask("write"), other.ask("write")] == ["database is locked"] * 2
        holder.process.send_signal(signal.SIGCONT)
        assert holder.ask("end") == "ended"
        assert [holder.ask("write"), other.ask("write")] == ["written"] * 2


def test_a_holder_frozen_before_it_has_sqlites_lock_stops_nobody_for_longer_than_their_timeout(path):
    turn = "import sys, time; from zcplatform.lib.sqlite3.base import Turns\n"
    turn += "assert Turns(sys.argv[1]).take(time.monotonic()); print('held', flush=True); time.sleep(60)"
    argv = [sys.executable, "-c", turn, str(path)]
    with subprocess.Popen(argv, stdout=subprocess.PIPE, text=True) as holder, program(path, 0.3) as other:
        assert holder.stdout.readline() == "held\n"
        holder.send_signal(signal.SIGSTOP)
        assert other.ask("write") == "written", "turns are a courtesy"
        holder.kill()


def test_a_frozen_waiter_stops_nobody(path):
    with program(path) as holder, program(path) as waiter, program(path) as third:
        assert holder.ask("begin") == "begun"
        waiter.say("write")
        time.sleep(0.2)
        waiter.process.send_signal(signal.SIGSTOP)
        assert holder.ask("end") == "ended"
        assert third.ask("write") == "written"
        waiter.process.send_signal(signal.SIGCONT)
        assert waiter.hear() == "written"


# --- the line of one process ---------------------------------------------------------------------------------


class Queue:
    """Threads that enter a line one after the other, and note who got in."""

    def __init__(self):
        self.line, self.seen, self.threads = Line(), [], []

    def join(self, name, limit_s=PATIENCE_S):
        before = len(self.line._waiting)
        thread = threading.Thread(target=lambda: self.seen.append((name, self.line.enter(limit_s))))
        self.threads.append(thread)
        thread.start()
        while thread.is_alive() and len(self.line._waiting) == before:
            time.sleep(0.001)

    def wait_for(self, number):
        until = time.monotonic() + PATIENCE_S
        while len(self.seen) < number and time.monotonic() < until:
            time.sleep(0.001)
        return self.seen


def test_who_comes_first_is_served_first():
    queue = Queue()
    for number in range(20):
        queue.join(number)
    for number in range(20):
        assert queue.wait_for(number + 1) == [(n, True) for n in range(number + 1)]
        queue.line.leave()
    assert not queue.line._waiting
    assert queue.line.enter(0)


def test_who_gives_up_holds_up_nobody():
    queue = Queue()
    queue.join("inside")
    queue.join("impatient", 0.05)
    queue.join("patient")
    assert queue.wait_for(2) == [("inside", True), ("impatient", False)]
    queue.line.leave()
    assert queue.wait_for(3)[2] == ("patient", True)


def test_who_is_called_in_the_moment_of_giving_up_calls_the_next():
    queue = Queue()
    assert queue.line.enter(0)
    late = threading.Lock()
    late.acquire()
    queue.line._waiting.append(late)  # whose time is over
    queue.join("next")
    queue.line.leave()  # which calls the late one
    queue.line._step_out(late)
    assert queue.wait_for(1) == [("next", True)]


def test_an_interrupt_leaves_nobody_in_the_line():
    line, old = Line(), signal.signal(signal.SIGALRM, lambda *_: 1 / 0)
    try:
        assert line.enter(0)
        signal.setitimer(signal.ITIMER_REAL, 0.1)
        with pytest.raises(ZeroDivisionError):
            line.enter(PATIENCE_S)
    finally:
        signal.signal(signal.SIGALRM, old)
    line.leave()
    assert line.enter(0)


# --- forks ---------------------------------------------------------------------------------------------------


def test_a_child_forked_within_a_turn_has_none_and_does_not_end_its_parents(path):
    with program(path, 0.3) as parent:
        assert parent.ask("begin") == "begun"
        assert parent.ask("fork and close") == "0"
        assert not is_free(path)
        assert parent.ask("end") == "ended"
        assert is_free(path)
        assert parent.ask("fork") == "0"


def test_a_child_does_not_wait_in_the_line_that_it_inherits(path):
    """Two of the parent's threads stand in it, and neither exists in the child."""
    with program(path, 20) as parent:
        assert parent.ask("fork beside") == "0"


def test_a_child_begins_a_line_of_its_own(path):
    mine = turns_at(str(path))
    mine.take(time.monotonic())
    assert processes.run(lambda: os._exit(0 if turns_at(str(path)) is not mine else 3)) == 0
    assert turns_at(str(path)) is mine
    mine.give()


# --- every end of a transaction ------------------------------------------------------------------------------


@pytest.fixture
def turns(transactional_db):
    connection.ensure_connection()
    return turns_at(connection._database)


def free(turns):
    taken = turns.take(time.monotonic())
    if taken:
        turns.give()
    return taken


def test_a_turn_lasts_from_the_beginning_of_the_outermost_block_to_its_end(turns):
    with transaction.atomic():
        RateWindow.objects.create(key="outer")
        with pytest.raises(ZeroDivisionError), transaction.atomic():
            RateWindow.objects.create(key="undone")
            raise ZeroDivisionError
        assert not free(turns)
        with transaction.atomic(), transaction.atomic(savepoint=False):
            RateWindow.objects.create(key="inner")
        assert not free(turns)
    assert free(turns)
    assert set(RateWindow.objects.values_list("key", flat=True)) == {"outer", "inner"}


@pytest.mark.parametrize("end", ["error", "close", "rollback"])
def test_a_transaction_that_ends_badly_gives_its_turn_back(turns, end):
    with pytest.raises(ZeroDivisionError), transaction.atomic():
        RateWindow.objects.create(key="x")
        if end == "close":
            connection.close()
        if end == "rollback":
            transaction.set_rollback(True)
        raise ZeroDivisionError
    assert free(turns)
    RateWindow.objects.create(key="y")
    assert RateWindow.objects.get().key == "y"


def test_a_commit_that_fails_keeps_the_turn_until_it_is_rolled_back(turns, monkeypatch):
    seen, rollback = [], connection._rollback
    monkeypatch.setattr(connection, "_rollback", lambda: (seen.append(free(turns)), rollback()))
    with pytest.raises(IntegrityError, match="FOREIGN KEY"), transaction.atomic():
        ApiKey.objects.create(user_id=999, stamp=0, expires_at=clock.now())  # whose user is looked at when it commits
        assert connection.connection.in_transaction
    assert seen == [False]
    assert free(turns)


def test_a_begin_that_fails_gives_its_turn_back(path, opened):
    mine = opened()
    with closing(sqlite3.connect(path, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        with pytest.raises(OperationalError, match="database is locked"), transaction.atomic(mine.alias):
            pass
    assert free(turns_at(str(path)))
    with transaction.atomic(mine.alias):
        pass


def test_a_thread_that_ends_within_its_transaction_leaves_no_turn(turns):
    def begin():
        transaction.atomic().__enter__()

    thread = threading.Thread(target=begin)
    thread.start()
    thread.join()
    gc.collect()
    assert free(turns)
    RateWindow.objects.create(key="x")


# --- time ----------------------------------------------------------------------------------------------------


def test_what_the_line_took_is_taken_from_sqlites_own_waiting(path, opened):
    mine, turns, said = opened(timeout=5), turns_at(str(path)), []
    mine.ensure_connection()
    mine.connection.set_trace_callback(said.append)
    with transaction.atomic(mine.alias):
        pass
    assert said == ["BEGIN IMMEDIATE", "COMMIT"], "who has not waited says nothing of it"
    said.clear()
    turns.take(time.monotonic())
    threading.Timer(1, turns.give).start()
    with transaction.atomic(mine.alias):
        pass
    shorter, begin, whole, _commit = said
    assert begin == "BEGIN IMMEDIATE"
    assert 0 < int(shorter.removeprefix("PRAGMA busy_timeout = ")) <= 4_500
    assert whole == "PRAGMA busy_timeout = 5000"


def test_who_waited_in_line_for_all_their_time_does_not_wait_for_sqlite_as_well(path, opened):
    mine, turns, said = opened(timeout=0.1), turns_at(str(path)), []
    mine.ensure_connection()
    mine.connection.set_trace_callback(said.append)
    turns.take(time.monotonic())
    with transaction.atomic(mine.alias):
        pass
    turns.give()
    assert said == ["PRAGMA busy_timeout = 0", "BEGIN IMMEDIATE", "PRAGMA busy_timeout = 100", "COMMIT"]


# --- which file ----------------------------------------------------------------------------------------------


def test_two_databases_do_not_wait_for_each_other(path, tmp_path, opened):
    one, two = opened(), opened(made(tmp_path / "two.db"))
    with transaction.atomic(one.alias), transaction.atomic(two.alias):
        assert not free(turns_at(str(path)))
        assert not free(turns_at(str(tmp_path / "two.db")))


def test_every_name_of_a_file_is_the_same_line(path, tmp_path, opened, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("link.db").symlink_to(path)
    for name in (path, str(path), "one.db", "link.db", f"file:{path}?mode=rw"):
        with transaction.atomic(opened(name).alias):
            assert not free(turns_at(str(path))), name
    assert sorted(p.name for p in tmp_path.glob(f"*{SUFFIX}")) == [f"one.db{SUFFIX}"]


@pytest.mark.parametrize("name", [":memory:", "file:turns?mode=memory&cache=shared"])
def test_a_database_in_memory_has_no_turns(name, opened, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    before = set(os.listdir())
    with transaction.atomic(opened(name).alias):
        pass
    assert set(os.listdir()) == before


@pytest.mark.parametrize("mode", [None, "DEFERRED"])
def test_a_transaction_that_may_only_read_takes_no_turn(path, opened, mode):
    with transaction.atomic(opened(transaction_mode=mode).alias):
        assert free(turns_at(str(path)))


def test_only_its_owner_opens_the_file(path, opened):
    with transaction.atomic(opened().alias):
        pass
    assert Path(f"{path}{SUFFIX}").stat().st_mode & 0o777 == 0o600


@pytest.mark.root
def test_what_root_makes_belongs_to_the_owner_of_the_database(path, opened):
    os.chown(path, 12_345, 12_346)
    with transaction.atomic(opened().alias):
        pass
    made = Path(f"{path}{SUFFIX}").stat()
    assert (made.st_uid, made.st_gid) == (12_345, 12_346)


@pytest.mark.parametrize("strange", ["link", "folder"])
def test_where_no_file_can_be_had_sqlites_own_waiting_has_to_do(path, tmp_path, opened, strange):
    place, other = Path(f"{path}{SUFFIX}"), tmp_path / "other"
    if strange == "link":
        other.write_text("left alone")
        place.symlink_to(other)
    else:
        place.mkdir()
    with transaction.atomic(opened().alias), connections["turns0"].cursor() as cursor:
        cursor.execute("INSERT INTO rows VALUES ('x')")
    assert free(Turns(str(path))) is False
    assert strange == "folder" or other.read_text() == "left alone"


def test_a_database_that_is_swapped_by_a_rename_keeps_its_line(path, tmp_path):
    """As a restore does; who still has the old file open, such as a shell, gives way to the new one's writers."""
    with program(path) as old, program(path, 0.3) as new:
        assert old.ask("write") == "written"
        for suffix in ("", "-wal", "-shm"):
            Path(f"{path}{suffix}").rename(tmp_path / f"before{suffix}")
        made(path)
        assert old.ask("begin") == "begun"
        assert new.ask("write") == "written", "the old file is locked, not this one"
        assert old.ask("end") == "ended"
        assert [new.ask("write"), old.ask("write")] == ["written"] * 2
        assert is_free(path)
    with closing(sqlite3.connect(path)) as database:
        assert database.execute("SELECT count(*) FROM rows").fetchone() == (2,)


# --- under load ----------------------------------------------------------------------------------------------


def test_sixty_writers_of_four_processes_all_get_through_and_leave_no_turn_taken(transactional_db):
    def crowd():
        failed, gate = [], threading.Barrier(15)

        def write(number):
            try:
                gate.wait()
                for turn in range(10):
                    with transaction.atomic():
                        RateWindow.objects.count()
                        RateWindow.objects.create(key=f"{os.getpid()} {number} {turn}")
            except Exception as error:
                failed.append(error)
            finally:
                connection.close()

        threads = [threading.Thread(target=write, args=(number,)) for number in range(15)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert failed == []

    children = [processes.start(crowd) for _ in range(4)]
    assert [processes.wait(child) for child in children] == [0] * 4
    assert RateWindow.objects.count() == 600
    assert is_free(connection.settings_dict["NAME"])


@pytest.mark.parametrize("exists", [False, True])
def test_a_database_that_must_exist_is_never_made(tmp_path, exists):
    path = tmp_path / "100%41 odd?#.db"
    if exists:
        made(path)
    given = {"ENGINE": "zcplatform.lib.sqlite3", "NAME": str(path), "OPTIONS": {"must_exist": True}}
    one = ConnectionHandler({"default": given})["default"]
    if exists:
        one.get_new_connection(one.get_connection_params()).close()
    else:
        with pytest.raises(sqlite3.OperationalError):
            one.get_new_connection(one.get_connection_params())
    assert path.exists() is exists
