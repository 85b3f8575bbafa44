"""Fixtures that every part of the suite shares, and the rule for counterparts that are absent."""

from __future__ import annotations

import compileall
import os
import signal
from pathlib import Path
from typing import Any

import hypothesis
import pytest
from django.db.backends.base.operations import BaseDatabaseOperations

from audit import triggers
from tests import counterparts, database, parallel, redis, slot
from tests.architecture import PACKAGES, ROOT

pytest_plugins = ["pytester", "tests.caddy"]

LEFT_OUT = "left out"


def pytest_configure(config: pytest.Config) -> None:
    if not hasattr(config, "workerinput"):  # what distributes the tests has done it for those that play them
        _compile()
    try:
        counterparts.required(os.environ.get("ZC_REQUIRE", ""))
    except ValueError as error:
        raise pytest.UsageError(str(error)) from error
    # Hypothesis fails an example that takes 200 ms; a machine that stalled for a moment is no fault of the code.
    hypothesis.settings.register_profile("untimed", deadline=None)
    hypothesis.settings.load_profile("untimed")
    # A job in the background is started with Ctrl-C ignored, and so are all its children; some tests send it.
    signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    if slot.worker():
        items.sort(key=lambda item: parallel.place(item.nodeid))


@pytest.hookimpl(optionalhook=True)  # without xdist nobody asks
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> parallel.Scheduling:
    return parallel.Scheduling(config, log)


def _compile() -> None:
    """For the hundreds of processes that tests start: with PYTHONDONTWRITEBYTECODE set each would do it for itself."""
    for name in PACKAGES:
        compileall.compile_dir(ROOT / name, quiet=2)


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup(item: pytest.Item) -> None:
    required = counterparts.required(os.environ.get("ZC_REQUIRE", ""))
    for name in counterparts.PROBES:
        if item.get_closest_marker(name) is None:
            continue
        reason = counterparts.missing(name)
        if reason and name in required:
            pytest.fail(f"ZC_REQUIRE names {name}, but {reason}", pytrace=False)
        if reason:
            item.user_properties.append((LEFT_OUT, f"{name}: {reason}"))  # travels with the report
            pytest.skip(f"{name}: {reason}")


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, exitstatus: int, config: pytest.Config) -> None:
    if exitstatus == pytest.ExitCode.TESTS_FAILED:  # else not all were played, and those alone would not do
        _note_failures(terminalreporter)
    _tell_of_the_round_before(terminalreporter)
    skipped = terminalreporter.stats.get("skipped", [])
    left_out = [(r.nodeid, reason) for r in skipped for name, reason in r.user_properties if name == LEFT_OUT]
    if not left_out:
        return
    terminalreporter.section(f"{len(left_out)} left out for want of a counterpart")
    for nodeid, reason in left_out:
        terminalreporter.write_line(f"{nodeid}  ({reason})")


def _note_failures(terminalreporter: pytest.TerminalReporter) -> None:
    """One test a line into the file that ZC_FAILED names, so that .ci/run can look at them once more, alone."""
    path = os.environ.get("ZC_FAILED")
    if path:
        reports = [r for kind in ("failed", "error") for r in terminalreporter.stats.get(kind, [])]
        nodes = dict.fromkeys(report.nodeid for report in reports)
        Path(path).write_text("".join(f"{node}\n" for node in nodes))


def _tell_of_the_round_before(terminalreporter: pytest.TerminalReporter) -> None:
    """What failed there, from the file that ZC_FAILED_BEFORE names: the end of a log is what is looked at."""
    path = Path(os.environ.get("ZC_FAILED_BEFORE") or "/nonexistent")
    if path.is_file() and (failed := path.read_text()):
        terminalreporter.section(f"{len(failed.splitlines())} failed in the round before")
        terminalreporter.write(failed)


@pytest.fixture(autouse=True, scope="session")
def _flush_may_empty_the_audit():
    """Between transactional tests Django empties every table; the audit's triggers step aside for that alone."""
    original = BaseDatabaseOperations.execute_sql_flush

    def flush(self, sql_list):
        triggers.remove(self.connection)
        try:
            original(self, sql_list)
        finally:
            triggers.install(self.connection)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(BaseDatabaseOperations, "execute_sql_flush", flush)
        yield


@pytest.fixture(autouse=True, scope="session")
def _databases_are_copies():
    with pytest.MonkeyPatch.context() as patch:
        database.copy_what_is_migrated(patch)
        yield


@pytest.fixture(autouse=True)
def _windows_begin_empty(monkeypatch):
    """Those in the database are taken back with the rest of a test; those in Redis are not, and ask another clock."""
    from django.conf import settings

    if settings.REDIS_URL:
        from accounts.rates import limiter

        redis.use_our_clock(monkeypatch)
        limiter.storage.reset()


@pytest.fixture
def vault_key(db):
    """The vault's key file, and its mirror in this test's database."""
    from vault.services import create_keyring
    from zcplatform.lib.actors import SYSTEM

    return create_keyring(actor=SYSTEM)


@pytest.fixture
def tenant(db):
    """A draft tenant without a run; ``owner`` and ``colleague`` belong to it."""
    from tests.factories import TenantFactory

    return TenantFactory()


@pytest.fixture
def owner(tenant):
    from tests.factories import MemberFactory

    return MemberFactory(tenant=tenant, role="owner").user


@pytest.fixture
def colleague(tenant):
    """A contributor: may read logs and chat, may change nothing."""
    from tests.factories import MemberFactory

    return MemberFactory(tenant=tenant, role="contributor").user


@pytest.fixture
def stranger(db):
    """The owner of another tenant: everything of ``tenant`` must look absent."""
    from tests.factories import MemberFactory

    return MemberFactory(role="owner").user


@pytest.fixture
def super_admin(db):
    from tests.factories import UserFactory

    return UserFactory(is_superuser=True)
