from __future__ import annotations

import subprocess
import sys

import pytest

from tests import processes
from zcplatform.lib.failpoints import FailpointError, armed, failpoint


def test_unarmed_it_does_nothing():
    failpoint("a")


def test_only_the_named_one_acts():
    with armed("a=raise"):
        failpoint("b")
        with pytest.raises(FailpointError):
            failpoint("a")
    failpoint("a")


def test_the_nth_hit_acts_once():
    with armed("a=raise@2"):
        failpoint("a")
        with pytest.raises(FailpointError):
            failpoint("a")
        failpoint("a")


def test_several_may_be_armed():
    with armed("a=raise, b=sleep:0,"):
        failpoint("b")
        with pytest.raises(FailpointError):
            failpoint("a")


def test_it_kills_and_exits_for_real():
    assert processes.run(lambda: failpoint("a"), "a=kill") == processes.KILLED
    assert processes.run(lambda: failpoint("a"), "a=exit:7") == 7


def test_the_environment_arms_it():
    code = "from zcplatform.lib.failpoints import failpoint; failpoint('a'); failpoint('a')"
    done = subprocess.run([sys.executable, "-c", code], env={"ZC_FAILPOINT": "a=kill@2"})
    assert done.returncode == processes.KILLED


@pytest.mark.parametrize("spec", ["a", "a=", "a=explode", "a=kill@x"])
def test_a_misspelled_one_stops_the_start(spec):
    with pytest.raises(ValueError), armed(spec):
        pass
