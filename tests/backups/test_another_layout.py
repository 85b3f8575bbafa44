"""A backup made on one layout comes up on another: an empty home in another place, with the agents of the first gone
and then back, on a real engine."""

from __future__ import annotations

import json
import tempfile
from pathlib import Path

import docker
import pytest

from tests import slot
from tests.backups.place import Place

pytestmark = [pytest.mark.docker, pytest.mark.slow, pytest.mark.timeout(600)]
SETTINGS = {
    "RUNTIME": "docker",
    "ROUTER": "direct",
    "PORT_RANGE": slot.text(slot.CONTAINERS),
}


@pytest.fixture
def folder():
    """Short and passable: the agents' users must get through."""
    with tempfile.TemporaryDirectory(prefix="zcrestore-") as name:
        Path(name).chmod(0o711)
        yield Path(name)


def ours(engine, place):
    label = f"zcplatform.instance={(place.folder / 'instance.id').read_text()}"
    return engine.containers.list(all=True, filters={"label": label})


def test_reconcile_brings_the_tenants_of_a_restored_home_up(folder):
    engine = docker.from_env(timeout=30)
    first = Place(folder / "first" / "home", **SETTINGS).bootstrap()
    elsewhere = {"KEYS_DIR": str(folder / "second" / "secrets"), **SETTINGS}
    second = Place(folder / "second" / "state", **elsewhere)
    second.env["ZCPLATFORM_DATABASE_URL"] = f"sqlite:///{folder}/second/db/platform.sqlite"
    second.env["ZCPLATFORM_VAULT_KEY_FILE"] = str(folder / "second" / "vault" / "key.json")
    try:
        told = json.loads(first.do("provision", "Acme", "--plan", "pro", "--json"))
        assert told["status"] == "running"
        archive = first.backup("--output", str(folder / "archives"))
        (before,) = ours(engine, first)
        before.remove(force=True)  # the first machine is gone

        second.do("restore", "--archive", str(archive), "--yes")
        for path in ("db/platform.sqlite", "vault/key.json", "secrets/django.key", "state/instance.id"):
            assert (folder / "second" / path).stat().st_mode & 0o777 == 0o600
        second.do("bootstrap", "--admin-email", "ops@example.test")
        second.do("reconcile")
        (after,) = ours(engine, second)
        assert after.id != before.id
        assert {mount["Source"].split("/tenants/")[0] for mount in after.attrs["Mounts"]} == {str(second.folder)}
        hardened = [f for f in findings(second) if f["check"] in ("agents", "hardening") and f["level"] != "ok"]
        assert hardened == []
        assert "demo" in second.do("logs", "acme").lower()
    finally:
        for place in (second, first):
            place.run("teardown", "--yes")
        for place in (first, second):
            for container in ours(engine, place) if (place.folder / "instance.id").exists() else ():
                container.remove(force=True)


def findings(place):
    return json.loads(place.run("doctor", "--json").stdout)["findings"]


def test_an_agent_that_the_restored_rows_do_not_know_is_quarantined_and_not_deleted(folder):
    """F12: made after the backup, so of no tenant that the restored database knows."""
    engine = docker.from_env(timeout=30)
    place = Place(folder / "home", **SETTINGS).bootstrap()
    try:
        archive = place.backup("--output", str(folder / "archives"))
        later = json.loads(place.do("provision", "Later", "--plan", "pro", "--json"))
        place.do("restore", "--archive", str(archive), "--yes")
        place.do("reconcile")
        (left,) = ours(engine, place)
        assert left.labels["zcplatform.tenant"] == later["id"]
        assert left.status == "exited"
        said = [f["what"] for f in findings(place) if f["check"] in ("agents", "leftovers")]
        assert any("belongs to no tenant" in what for what in said)
        assert (place.folder / "tenants" / later["id"] / "data").is_dir()
    finally:
        for container in ours(engine, place):
            container.remove(force=True)
        place.run("teardown", "--yes")
