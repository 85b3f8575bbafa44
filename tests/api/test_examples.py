"""The worked examples of docs/api-examples.md, run as they stand there against the served application."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from django.core import mail as outbox
from django.db import connection

from accounts import mail
from tenants.models import Run, Tenant
from tenants.provisioning.plans import PROCEDURE
from tenants.provisioning.runner import execute
from tenants.states import ACTIVE_RUN
from tests.factories import PlanFactory, UserFactory
from tests.serving import serving
from zcplatform.asgi import application

pytestmark = pytest.mark.django_db(transaction=True)
PAGE = Path(__file__).resolve().parents[2] / "docs" / "api-examples.md"


def block(language):
    return re.search(rf"```{language}\n(.*?)```", PAGE.read_text(), re.DOTALL)[1]


class Workers(threading.Thread):
    """What serve's workers do: send mail, execute runs. The code of the mail goes to whoever asked for it."""

    def __init__(self, typist):
        super().__init__(daemon=True)
        self.typist, self.done = typist, threading.Event()

    def run(self):
        try:
            while not self.done.wait(0.1):
                mail.send_due()
                while outbox.outbox:
                    code = re.search(r"\b[0-9]{6}\b", outbox.outbox.pop().body)[0]
                    self.typist.write(f"{code}\n")
                    self.typist.flush()
                for pk in Run.objects.filter(status__in=ACTIVE_RUN).values_list("pk", flat=True):
                    execute(pk, PROCEDURE)
        finally:
            connection.close()


def walk(argv, port):
    env = {**os.environ, "BASE": f"http://127.0.0.1:{port}", "EMAIL": "dana@example.test", "NO_PROXY": "*"}
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.STDOUT}
    with subprocess.Popen(argv, env=env, text=True, **pipes) as process:
        workers = Workers(process.stdin)
        workers.start()
        try:
            output = process.stdout.read()
            assert process.wait(120) == 0, output
        finally:
            process.kill()
            workers.done.set()
            workers.join()
    return output


@pytest.fixture
def port(node, vault_key, settings, monkeypatch):
    monkeypatch.setattr("accounts.mail.async_task", lambda *a, **k: None)
    settings.SELF_SERVICE_SIGNUP = True
    PlanFactory(slug="free")
    UserFactory(email="dana@example.test")
    with serving(application) as made:
        yield made


def test_the_walk_with_curl(port, tmp_path):
    script = tmp_path / "walk.bash"
    script.write_text("set -euo pipefail\n" + block("sh"))
    output = walk(["bash", str(script)], port)
    tenant = Tenant.objects.get(slug="curl-example")
    assert (tenant.status, tenant.config.extra_config) == ("running", {"metrics": "none"})
    assert "event: end" in output and "+++ b/demo.json" in output


def test_the_walk_with_httpx(port, tmp_path):
    script = tmp_path / "walk.py"
    script.write_text(block("python"))
    output = walk([sys.executable, str(script)], port)
    assert "await_health done" in output and "provision succeeded" in output
    assert Tenant.objects.get(slug="httpx-example").status == "running"
