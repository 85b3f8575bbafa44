"""Limits where they have to hold: four real web processes behind real Caddy, and over a restart of all of them."""

import itertools
import json
import os
import random
import signal
import socket
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import httpx
import pytest

from tests.architecture import ROOT
from tests.zcplatform.serving import Home, wait_for
from tests.zcplatform.test_supervisor import free_port

NUMBERS = itertools.count()
PER_NETWORK = 30
LIES = (
    lambda ip: {"X-Forwarded-For": ip},
    lambda ip: {"X-Forwarded-For": f"{ip}, {ip}"},
    lambda ip: {"X_Forwarded_For": ip},
    lambda ip: {"Forwarded": f"for={ip}"},
    lambda ip: {"X-Real-IP": ip, "CF-Connecting-IP": ip, "True-Client-IP": ip},
)


def some_ip():
    return f"203.0.{random.randrange(256)}.{random.randrange(1, 255)}"


def ask_for_codes(port, number, headers=lambda _ip: {}):
    """So many requests for codes to different addresses at once; the statuses."""

    def ask(n):
        body = {"email": f"u{n}@example.com"}
        told = {"Host": "localhost", **headers(some_ip())}
        return httpx.post(
            f"http://127.0.0.1:{port}/api/auth/otp/request", json=body, headers=told, timeout=60
        ).status_code

    with ThreadPoolExecutor(8) as pool:
        return list(pool.map(ask, [next(NUMBERS) for _ in range(number)]))


def answers(port):
    try:
        return httpx.get(f"http://127.0.0.1:{port}/health", headers={"Host": "localhost"}).status_code == 200
    except httpx.TransportError:
        return False


@pytest.mark.caddy
@pytest.mark.timeout(240)
def test_k1_k2_k4_no_header_moves_the_limit_and_no_restart_forgets_it(tmp_path):
    port, public = free_port(), free_port()
    home = Home(
        tmp_path, ROUTER="caddy", CADDY_LISTEN=f"127.0.0.1:{public}", CADDY_HTTPS="0", WEB_WORKERS="4", PORT=str(port)
    )
    with home.serve("--no-workers") as serve:
        serve.wait_until_said("router: caddy", "web on")
        assert home.manage("reconcile").returncode == 0  # which gives Caddy the platform's own route
        wait_for(lambda: answers(public) and answers(port), "Caddy and the web answer")
        first = ask_for_codes(public, 12, LIES[0])
        assert first == [202] * 12
        for lie in LIES[1:]:
            first += ask_for_codes(public, 8, lie)
        assert sorted(first) == [202] * PER_NETWORK + [429] * (len(first) - PER_NETWORK)
        os.kill(serve.pid, signal.SIGTERM)
        serve.process.wait(timeout=60)
    with home.serve("--no-workers") as serve:
        serve.wait_until_said("router: caddy", "web on")
        assert home.manage("reconcile").returncode == 0
        wait_for(lambda: answers(public) and answers(port), "Caddy and the web answer")
        assert ask_for_codes(public, 4, LIES[0]) == [429] * 4
        # Straight to the web, past Caddy, from this machine: the same caller, whatever it says of itself.
        assert ask_for_codes(port, 4, LIES[2]) == [429] * 4


@pytest.mark.caddy
@pytest.mark.root
@pytest.mark.timeout(240)
def test_k3_k4_of_ipv6_behind_caddy_the_64_counts(tmp_path):
    """From forty addresses of one /64, each its own connection to Caddy: needs a network where one may have them."""
    argv = ["unshare", "--net", sys.executable, "-m", "tests.zcplatform.ipv6_net", str(tmp_path)]
    told = subprocess.run(argv, cwd=ROOT, capture_output=True, text=True, timeout=200)
    assert told.returncode == 0, told.stderr
    one, other = json.loads(told.stdout)
    assert one == [202] * PER_NETWORK + [429] * 10
    assert other == [202] * 4


@pytest.mark.timeout(240)
def test_k1_k4_without_a_proxy_no_header_is_believed(tmp_path):
    port = free_port()
    home = Home(tmp_path, WEB_WORKERS="4", PORT=str(port))
    with home.serve("--no-workers"):
        wait_for(lambda: answers(port), "the web answers")
        statuses = [status for lie in LIES for status in ask_for_codes(port, 8, lie)]
        assert sorted(statuses) == [202] * PER_NETWORK + [429] * (len(statuses) - PER_NETWORK)


HUGE = {
    "10 MB in one header": [f"X-Huge: {'x' * 10_000_000}"],
    "10 MB in one cookie": [f"Cookie: c={'x' * 10_000_000}"],
    "1,000 cookies": ["Cookie: " + "; ".join(f"c{n}={'x' * 90}" for n in range(1_000))],
    "1,000 headers of one name": ["X-Same: x"] * 1_000,
}


def status_of(port, lines):
    """The status for a request with these header lines; 400 as well when the server hangs up before it has read all."""
    text = "\r\n".join(["GET /health HTTP/1.1", "Host: localhost", *lines, "", ""]).encode()
    with socket.create_connection(("127.0.0.1", port), timeout=60) as line:
        try:
            line.sendall(text)
            return int(line.recv(100).split()[1])
        except (ConnectionError, IndexError):
            return 400


@pytest.mark.timeout(240)
def test_m4_too_many_and_too_large_headers_are_refused_and_the_web_answers_on(tmp_path):
    port = free_port()
    home = Home(tmp_path, WEB_WORKERS="1", PORT=str(port))
    with home.serve("--no-workers"):
        wait_for(lambda: answers(port), "the web answers")
        assert status_of(port, [f"X-Long: {'x' * 30_000}", *["X-Same: x"] * 100]) == 200
        assert {name: status_of(port, lines) for name, lines in HUGE.items()} == dict.fromkeys(HUGE, 400)
        assert answers(port)
