"""Wherever the web listens, the router finds it; where it does not, ``doctor`` and the start say so."""

import json
import socket

import httpx
import pytest

from tests.zcplatform.serving import Home, wait_for
from tests.zcplatform.test_supervisor import free_port

pytestmark = pytest.mark.caddy


def own_address():
    """One that this host has beside the loopback."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        probe.connect(("192.0.2.1", 9))  # sends nothing
        return probe.getsockname()[0]


def status(public):
    try:
        return httpx.get(f"http://127.0.0.1:{public}/healthz", headers={"Host": "localhost"}).status_code
    except httpx.TransportError:
        return 0


def looked(home, check):
    said = json.loads(home.manage("doctor", "--json").stdout)
    return [(found["level"], found["what"]) for found in said["findings"] if found["check"] == check]


@pytest.mark.parametrize("bind", ["::1", "[::1]", "127.0.0.2", "::", own_address()])
def test_a_platform_that_listens_elsewhere_is_reached_through_its_router(tmp_path, bind):
    public = free_port()
    home = Home(tmp_path, ROUTER="caddy", CADDY_LISTEN=f"127.0.0.1:{public}", CADDY_HTTPS="0", BIND=bind)
    with home.serve("--no-workers") as serve:
        serve.wait_until_said("router: caddy", "web on")
        assert home.manage("reconcile").returncode == 0
        wait_for(lambda: status(public), "the router answers")
        assert status(public) == 200
        assert looked(home, "web")[0][0] == "ok"
        assert looked(home, "router")[0][0] == "ok"


def test_a_router_that_is_sent_elsewhere_is_no_reason_to_be_content(tmp_path):
    public = free_port()
    home = Home(tmp_path, ROUTER="caddy", CADDY_LISTEN=f"127.0.0.1:{public}", CADDY_HTTPS="0")
    with home.serve("--no-workers") as serve:
        serve.wait_until_said("router: caddy", "web on")
        right = home.env["ZCPLATFORM_PORT"]
        home.env["ZCPLATFORM_PORT"] = str(free_port())
        assert home.manage("reconcile").returncode == 0
        assert "the web does not answer" in looked(home, "web")[0][1]
        home.env["ZCPLATFORM_PORT"] = right
        level, what = looked(home, "web")[0]
        assert (level, "the router answers 502" in what) == ("error", True)


def test_a_start_at_another_address_than_the_routes_lead_to_is_refused(tmp_path):
    home = Home(tmp_path, ROUTER="caddy", CADDY_LISTEN=f"127.0.0.1:{free_port()}", CADDY_HTTPS="0")
    for elsewhere in (("--bind", "::1"), ("--port", str(free_port()))):
        refused = home.manage("serve", "--no-workers", *elsewhere)
        assert (refused.returncode, "ZCPLATFORM_BIND and ZCPLATFORM_PORT" in refused.stderr) == (2, True)
