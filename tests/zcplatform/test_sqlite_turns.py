"""Writers take turns at SQLite: none is left waiting until its time is over, and a turn ends with its holder."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading

import pytest
from django.db import connection, transaction
from django.db.utils import OperationalError

from accounts.models import RateWindow
from zcplatform.lib.sqlite3.base import Turns, turns_at

pytestmark = pytest.mark.skipif(connection.vendor != "sqlite", reason="PostgreSQL has many writers")

HOLD = """
import sys, time
from zcplatform.lib.sqlite3.base import Turns
Turns(sys.argv[1]).take(10)
print("held", flush=True)
time.sleep(60)
"""


@pytest.fixture
def path(tmp_path):
    return str(tmp_path / "db-turn")


def test_one_has_the_turn_and_the_others_get_sqlites_own_error(path):
    first, other_process = Turns(path), Turns(path)
    first.take(1)
    for turns in (first, other_process):
        with pytest.raises(OperationalError, match="database is locked"):
            turns.take(0.05)
    first.give()
    other_process.take(1)
    other_process.give()
    first.take(1)


def test_a_killed_process_gives_its_turn_back(path):
    with subprocess.Popen([sys.executable, "-c", HOLD, path], stdout=subprocess.PIPE, text=True) as holder:
        assert holder.stdout.readline() == "held\n"
        with pytest.raises(OperationalError):
            Turns(path).take(0.05)
        holder.send_signal(signal.SIGKILL)
        holder.wait(20)
    Turns(path).take(20)


def test_a_database_in_memory_has_no_turns():
    assert turns_at("file:memorydb_default?mode=memory&cache=shared") is None
    assert turns_at(":memory:") is None


@pytest.mark.django_db(transaction=True)
def test_sixty_writers_at_once_all_get_through_and_leave_no_turn_taken():
    gate, failed = threading.Barrier(60), []

    def write(number):
        try:
            gate.wait()
            for turn in range(5):
                with transaction.atomic():
                    RateWindow.objects.count()
                    RateWindow.objects.create(key=f"{number} {turn}")
        except Exception as error:
            failed.append(error)
        finally:
            connection.close()

    threads = [threading.Thread(target=write, args=(number,)) for number in range(60)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failed == []
    assert RateWindow.objects.count() == 300


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("end", ["error", "close"])
def test_a_transaction_that_ends_badly_gives_its_turn_back(end):
    with pytest.raises(ZeroDivisionError), transaction.atomic():
        RateWindow.objects.create(key="x")
        if end == "close":
            connection.close()
        raise ZeroDivisionError
    with transaction.atomic():
        RateWindow.objects.create(key="y")
    turns = turns_at(str(connection.settings_dict["NAME"]))
    turns.take(1)
    turns.give()
    assert os.path.exists(f"{connection.settings_dict['NAME']}-turn")
