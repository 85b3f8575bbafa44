"""The platform as a whole on PostgreSQL and Redis: the rest of the suite runs there by ``python -m tests.servers make
test``."""

from __future__ import annotations

import json
import tempfile
from pathlib import Path

import httpx
import psycopg
import pytest

from tests import redis, slot
from tests.postgres import cluster
from tests.test_story import without_the_suite
from tests.zcplatform.serving import wait_for
from zcplatform.demo import Demo

pytestmark = [pytest.mark.postgres, pytest.mark.redis, pytest.mark.caddy, pytest.mark.slow, pytest.mark.timeout(300)]


class OnPostgres(Demo):
    """The demo on a database that is not its own file."""

    def __init__(self, home: Path, url: str, counters: str) -> None:
        super().__init__("process", home, lambda _line: None, ports=(0, 0))
        servers = {"ZCPLATFORM_DATABASE_URL": url, "ZCPLATFORM_REDIS_URL": counters}
        self.env = without_the_suite() | self._settings() | slot.APART | servers

    def json(self, *argv: str) -> dict:
        return json.loads(self.manage(argv[0], "--json", *argv[1:]))

    def ready(self) -> int:
        return httpx.get(f"http://127.0.0.1:{self.web}/readyz", timeout=20).status_code

    def ask_for_a_code(self) -> httpx.Response:
        address = f"http://127.0.0.1:{self.web}/api/auth/otp/request"
        return httpx.post(address, json={"email": "dana@example.com"}, timeout=20)


@pytest.fixture
def platform():
    with cluster() as url, redis.server() as counters, tempfile.TemporaryDirectory(prefix="zcpgs-") as folder:
        Path(folder).chmod(0o711)
        made = OnPostgres(Path(folder), url, counters.url)
        try:
            made.up()
            yield made, url, counters
        finally:
            made.manage("teardown", "--yes", "--json")
            made.down()


def test_a_tenant_is_provisioned_chatted_with_restarted_and_deleted(platform):
    made, url, counters = platform
    assert made.chat()["status"] == 200
    name = made.tenants[0]["tenant"]
    assert made.json("restart", name)["status"] == "running"
    assert made.json("suspend", name)["status"] == "suspended"
    assert made.json("reactivate", name)["status"] == "running"
    assert made.json("resize", name, "--plan", "enterprise")["status"] == "running"
    assert made.chat()["status"] == 200
    assert made.json("rotate_key")["version"] == 2  # and every secret under it
    made.json("deprovision", made.tenants[1]["tenant"], "--yes")
    assert made.json("audit_verify")["ok"] is True
    with psycopg.connect(url) as rows:
        statuses = dict(rows.execute("SELECT slug, status FROM tenants").fetchall())
        assert statuses == {name: "running", made.tenants[1]["tenant"]: "deleted"}
        with pytest.raises(psycopg.errors.IntegrityConstraintViolation, match="append-only"):
            rows.execute("DELETE FROM audit_log")
    assert not (made.home / "zcplatform.db").exists()
    redis_goes_away_and_comes_back(made, url, counters)


def redis_goes_away_and_comes_back(made, url, counters):
    """What is counted is refused meanwhile; who is through already goes on."""
    assert [made.ask_for_a_code().status_code for _ in range(6)] == [202] * 5 + [429]
    with psycopg.connect(url) as rows:
        assert rows.execute("SELECT count(*) FROM rate_windows").fetchone() == (0,)
    counters.kill()
    refused = made.ask_for_a_code()
    assert (refused.status_code, refused.json()["error"]["type"]) == (503, "rates_unavailable")
    wait_for(lambda: made.ready() == 503, "unready without Redis")
    assert made.chat()["status"] == 200
    counters.start()
    wait_for(lambda: made.ready() == 200, "ready with Redis again")
    assert made.ask_for_a_code().status_code == 202
