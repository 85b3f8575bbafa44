"""The web's own lines, and what nobody caught, go the way of all logs: JSON, scrubbed."""

from __future__ import annotations

import json
import subprocess
import sys

import httpx

from tests.caddy import free_port
from tests.zcplatform.serving import wait_for
from tests.zcplatform.test_bootstrap import Installation

CRASHING = """
async def application(scope, receive, send):
    raise RuntimeError("upstream said: password=made-up-password")
"""


def answered(port):
    try:
        return httpx.get(f"http://127.0.0.1:{port}/", trust_env=False)
    except httpx.TransportError:
        return None


def test_i11_what_the_web_server_logs_is_json_and_scrubbed(tmp_path):
    (tmp_path / "crashing.py").write_text(CRASHING)
    env = Installation(tmp_path / "home").env | {"ZCPLATFORM_LOG_FORMAT": "json"}
    port, log = free_port(), tmp_path / "log"
    argv = [sys.executable, "-m", "gunicorn", "--config", "python:zcplatform.gunicorn_conf", "--workers", "1"]
    argv += ["--bind", f"127.0.0.1:{port}", "--chdir", str(tmp_path), "crashing:application"]
    with log.open("wb") as out:
        web = subprocess.Popen(argv, env=env, stdout=out, stderr=out)
    try:
        assert wait_for(lambda: answered(port), "the web answers").status_code == 500
    finally:
        web.terminate()
        web.wait(60)
    lines = [json.loads(line) for line in log.read_text().splitlines()]
    assert any("Booting worker" in line["event"] for line in lines)
    assert any("RuntimeError: upstream said" in line.get("exception", "") for line in lines)
    assert "made-up-password" not in log.read_text()
