"""The platform as a whole on PostgreSQL: the rest of the suite runs there by ``python -m tests.postgres make test``."""

from __future__ import annotations

import json
import tempfile
from pathlib import Path

import psycopg
import pytest

from tests.postgres import cluster
from tests.test_story import without_the_suite
from zcplatform.demo import Demo

pytestmark = [pytest.mark.postgres, pytest.mark.caddy, pytest.mark.timeout(300)]


class OnPostgres(Demo):
    """The demo on a database that is not its own file."""

    def __init__(self, home: Path, url: str) -> None:
        super().__init__("process", home, lambda _line: None, ports=(0, 0))
        self.env = without_the_suite() | self._settings() | {"ZCPLATFORM_DATABASE_URL": url}

    def json(self, *argv: str) -> dict:
        return json.loads(self.manage(argv[0], "--json", *argv[1:]))


@pytest.fixture
def platform():
    with cluster() as url, tempfile.TemporaryDirectory(prefix="zcpgs-") as folder:
        Path(folder).chmod(0o711)
        made = OnPostgres(Path(folder), url)
        try:
            made.up()
            yield made, url
        finally:
            made.manage("teardown", "--yes", "--json")
            made.down()


def test_a_tenant_is_provisioned_chatted_with_restarted_and_deleted(platform):
    made, url = platform
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
