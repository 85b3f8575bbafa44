"""The suite's own rules: what is absent is said by name, and what is required is never skipped."""

import pytest

from tests import counterparts
from tests.architecture import ROOT

SAMPLE = """
import pytest

@pytest.mark.docker
def test_needs_the_engine():
    pass

@pytest.mark.slow
def test_takes_long():
    pass
"""


@pytest.fixture
def suite(pytester, monkeypatch):
    """A suite in a folder of its own that uses our conftest, in which no engine answers."""
    pytester.makeconftest("from tests.conftest import *  # noqa: F403")
    pytester.makeini("[pytest]\nmarkers = docker: x\n    slow: x\n    caddy: x\n    root: x\n")
    pytester.makepyfile(SAMPLE)
    monkeypatch.setitem(counterparts.PROBES, "docker", lambda: "no engine answers")
    monkeypatch.delenv("ZC_REQUIRE", raising=False)
    monkeypatch.delenv("ZC_SLOW", raising=False)
    counterparts.missing.cache_clear()
    yield pytester
    counterparts.missing.cache_clear()


def test_what_is_left_out_is_listed_by_name_with_the_reason(suite):
    result = suite.runpytest_inprocess("-p", "no:django")
    result.assert_outcomes(skipped=2)
    result.stdout.fnmatch_lines(["*test_needs_the_engine  (docker: no engine answers)", "*(slow: runs with ZC_SLOW=1)"])
    assert result.outlines[-1].startswith("==") and "2 skipped" in result.outlines[-1]


def test_what_failed_in_the_round_before_is_told_above_the_last_line(suite, monkeypatch):
    before = suite.path / "before"
    before.write_text("tests/test_a.py::test_a\ntests/test_b.py::test_b\n")
    monkeypatch.setenv("ZC_FAILED_BEFORE", str(before))
    lines = suite.runpytest_inprocess("-p", "no:django").outlines
    assert "2 failed in the round before" in "\n".join(lines) and "tests/test_b.py::test_b" in lines
    assert "2 skipped" in lines[-1]


def test_what_is_left_out_is_told_by_the_workers_too(suite, monkeypatch):
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    result = suite.runpytest_subprocess("-n", "1", "--ds=tests.settings")
    result.stdout.fnmatch_lines(
        ["*left out for want of a counterpart*", "*test_takes_long  (slow: runs with ZC_SLOW=1)"]
    )


def test_a_required_counterpart_that_is_absent_fails(suite, monkeypatch):
    monkeypatch.setenv("ZC_REQUIRE", "docker")
    suite.runpytest_inprocess("-p", "no:django").assert_outcomes(errors=1, skipped=1)


def test_an_unknown_name_in_zc_require_is_an_error(suite, monkeypatch):
    monkeypatch.setenv("ZC_REQUIRE", "docker,dokcer")
    result = suite.runpytest_inprocess("-p", "no:django")
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines(["*unknown dokcer*"])


def test_the_slow_ones_run_when_asked(suite, monkeypatch):
    monkeypatch.setenv("ZC_SLOW", "1")
    suite.runpytest_inprocess("-p", "no:django").assert_outcomes(passed=1, skipped=1)


def test_the_people_stand_where_their_names_say(tenant, owner, colleague, stranger):
    from tenants.models import Member

    assert dict(Member.objects.filter(tenant=tenant).values_list("user_id", "role")) == {
        owner.pk: "owner",
        colleague.pk: "contributor",
    }
    assert Member.objects.get(user=stranger).tenant_id != tenant.pk
