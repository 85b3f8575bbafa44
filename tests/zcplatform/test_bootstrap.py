"""``bootstrap`` as a process, on an empty folder: what it makes, and what it never does twice."""

from __future__ import annotations

import json
import os

import pytest

from tests import slot, zygote
from tests.architecture import ROOT

PARTS = ["folders", "keys", "database", "vault", "plans", "node", "engine", "super-admin", "alerts", "schedules"]


class Installation:
    def __init__(self, folder):
        self.folder = folder
        dropped = {"ZCPLATFORM_DATABASE_URL", "ZC_TEST_HOME"}
        self.env = {name: value for name, value in os.environ.items() if name not in dropped} | {
            "ZCPLATFORM_HOME": str(folder),
            "ZCPLATFORM_CONFIG": str(folder / "platform.toml"),
            "ZCPLATFORM_ALLOW_UNPRIVILEGED_PROCESS": "1",
            "DJANGO_SETTINGS_MODULE": "zcplatform.settings",
            "PYTHONPATH": str(ROOT),
        }
        self.env |= slot.APART | slot.SERVED

    def bootstrap(self, *argv, email="ops@example.test", **extra):
        return self.run("bootstrap", *(["--admin-email", email] if email else []), *argv, **extra)

    def run(self, *argv, **extra):
        return zygote.run("zcplatform", *argv, env=self.env | extra, timeout=120)

    def keys(self):
        return {path.name: path.read_bytes() for path in (self.folder / "keys").iterdir() if path.suffix != ".lock"}


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """An installation, and what its first bootstrap said. Tests leave it as it is."""
    there = Installation(tmp_path_factory.mktemp("zcb") / "home")
    there.first = there.bootstrap("--json")
    return there


def test_bootstrap_makes_every_part(made):
    assert made.first.returncode == 0, made.first.stderr
    told = json.loads(made.first.stdout)
    assert list(told["parts"]) == PARTS
    assert told["parts"]["super-admin"] == "ops@example.test"


@pytest.mark.parametrize(
    ("path", "mode"),
    [
        (".", 0o711), ("tenants", 0o711), ("trash", 0o700), ("run", 0o700), ("keys", 0o700),
        ("zcplatform.db", 0o600), ("instance.id", 0o600), ("keys/vault.json", 0o600), ("keys/django.key", 0o600),
    ],
)  # fmt: skip
def test_bootstrap_gives_each_path_its_mode(made, path, mode):
    assert (made.folder / path).stat().st_mode & 0o777 == mode


def test_bootstrap_again_replaces_nothing(made):
    before = made.keys()
    again = made.bootstrap()
    assert again.returncode == 0, again.stderr
    assert [line.split()[1] for line in again.stdout.splitlines()] == PARTS
    assert made.keys() == before


def test_bootstrap_enrols_the_super_admins_second_factor(tmp_path):
    there = Installation(tmp_path / "home")
    told = json.loads(there.bootstrap("--second-factor", "--json").stdout)
    assert told["parts"]["second factor"] == "enrolled"
    assert told["second_factor"]["url"].startswith("otpauth://totp/")
    assert len(told["second_factor"]["recovery_codes"]) == 10
    again = json.loads(there.bootstrap("--second-factor", "--json").stdout)
    assert again["parts"]["second factor"] == "there"
    assert "second_factor" not in again


def test_bootstrap_refuses_an_address_that_is_none_and_makes_nothing(tmp_path):
    there = Installation(tmp_path / "home")
    refused = there.bootstrap(email="nobody")
    assert refused.returncode == 1
    assert refused.stderr.strip() == "CommandError: email: That is not an e-mail address."
    assert not there.folder.exists()


def test_bootstrap_without_an_address_is_wrong_usage(made):
    assert made.bootstrap(email="").returncode == 2


def test_bootstrap_with_an_engine_that_is_down_says_what_to_do(made, tmp_path):
    there = Installation(tmp_path / "home")
    down = {"ZCPLATFORM_RUNTIME": "docker", "ZCPLATFORM_DOCKER_HOST": f"unix://{tmp_path}/nobody.sock"}
    refused = there.bootstrap(**down)
    assert refused.returncode == 1
    assert "The container engine does not answer. Start it, then run bootstrap again." in refused.stderr


def test_bootstrap_with_a_second_node_of_the_runtime_goes_through(tmp_path):
    there = Installation(tmp_path / "home")
    assert there.bootstrap().returncode == 0
    second = (
        "from tenants.models import Node; one = Node.objects.get();"
        "Node.objects.create(name='aaa', runtime=one.runtime, port_first=1, port_last=2, uid_first=1, uid_last=2)"
    )
    assert there.run("shell", "-c", second).returncode == 0
    again = there.bootstrap("--json")
    assert again.returncode == 0, again.stderr
    assert json.loads(again.stdout)["parts"]["node"].startswith("process,")  # its own, whatever the other is called
    names = there.run("shell", "-c", "from tenants.models import Node; print(Node.objects.count())")
    assert names.stdout.splitlines()[-1] == "2"


@pytest.mark.root
def test_bootstrap_does_not_tick_a_runtime_that_could_run_no_agent(tmp_path):
    """The folder of the tests is closed to everybody else; here nothing allows agents to run as root."""
    there = Installation(tmp_path / "home")
    refused = there.bootstrap(ZCPLATFORM_ALLOW_UNPRIVILEGED_PROCESS="0")
    assert refused.returncode == 1
    assert "closed to others" in refused.stderr and "chmod o+x" in refused.stderr
    assert there.bootstrap().returncode == 0  # goes on from there once it is allowed


@pytest.mark.root
@pytest.mark.parametrize(
    "argv",
    [("bootstrap", "--admin-email", "ops@example.test"), ("restore", "--archive", "a.tar.gz", "--yes")],
    ids=lambda argv: argv[0],
)
def test_root_leaves_nothing_in_an_empty_home_that_belongs_to_the_platforms_user(tmp_path, argv):
    """Its user could read none of it, and the start would fail on a file that nobody knows of."""
    home = tmp_path / "home"
    home.mkdir()
    os.chown(home, 12_345, 12_345)
    done = Installation(home).run(*argv, "--json")
    assert done.returncode == 1, done.stderr
    error = json.loads(done.stdout)["error"]
    assert (error["type"], "uid 12345" in error["message"]) == ("home_of_another", True)
    assert list(home.iterdir()) == []
