"""When a router that does not answer has no routes: it is the platform's own, and no process of it is there."""

from __future__ import annotations

import os
import signal

import pytest

from tenants import routes
from tenants.routing import caddy_admin
from tenants.routing.caddy import CaddyRouter
from zcplatform.lib.errors import DependencyDown

pytestmark = [pytest.mark.caddy, pytest.mark.django_db]
ROUTER = CaddyRouter()


def test_one_that_runs_is_not_gone_and_one_that_was_killed_is(caddy):
    assert not ROUTER.is_gone()
    caddy.kill()
    assert ROUTER.is_gone()
    routes.withdraw()
    with pytest.raises(DependencyDown):
        routes.sync()
    caddy.start()
    assert not ROUTER.is_gone()


def test_one_that_never_ran_is_gone(settings, tmp_path):
    settings.HOME, settings.CADDY_ADMIN = tmp_path, ""
    assert ROUTER.is_gone()


@pytest.mark.parametrize("how", ["frozen", "without its socket"])
def test_one_that_can_not_be_reached_is_not_gone(caddy, monkeypatch, how):
    monkeypatch.setattr(caddy_admin, "TIMEOUT_S", 0.3)
    monkeypatch.setattr(caddy_admin, "READ_TRIES", 1)
    if how == "frozen":
        os.kill(caddy.process.pid, signal.SIGSTOP)
    else:
        caddy.socket.unlink()
    assert not ROUTER.is_gone()
    with pytest.raises(DependencyDown):
        routes.withdraw()


def test_of_somebody_elses_nothing_is_known(caddy, settings):
    settings.CADDY_ADMIN = str(caddy.socket)
    caddy.kill()
    assert not ROUTER.is_gone()
    with pytest.raises(DependencyDown):
        routes.withdraw()
