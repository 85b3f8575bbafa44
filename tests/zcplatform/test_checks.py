"""Each fault is planted, and the check with its id speaks; without a fault all are silent."""

import os
import re
from dataclasses import replace
from pathlib import Path

import pytest

from zcplatform import checks, platform_toml


def ids():
    return {message.id.removeprefix("zcplatform.") for message in checks.check_all()}


def test_nothing_is_wrong_with_the_suites_own_settings():
    assert ids() == set()


@pytest.mark.parametrize(
    ("planted", "id"),
    [
        ({"DEBUG": True, "IS_HTTPS": True}, "E008"),
        ({"DEBUG": True, "BIND": "0.0.0.0"}, "E008"),
        ({"ALLOWED_HOSTS": ["a.example", "*"]}, "E009"),
        ({"PUBLIC_HOST": "agents.example.com"}, "W010"),
        ({"BIND": "fe80::1%eth0"}, "E028"),
        ({"BIND": "{env.SECRET}"}, "E028"),
        ({"BIND": "http://127.0.0.1"}, "E028"),
        ({"DOMAIN": "{env.SECRET}"}, "E011"),
        ({"DOMAIN": "a.example\n"}, "E011"),
        ({"DOMAIN": ""}, "E011"),
        ({"TENANT_URL": "https://slug.example"}, "E012"),
        ({"RUNTIME": "podman"}, "E013"),
        ({"PORT_RANGE": (80, 2000)}, "E015"),
        ({"PORT_RANGE": (10_001, 70_000)}, "E015"),
        ({"PORT_RANGE": (8_000, 9_000), "PORT": 8_080}, "E016"),
        ({"PORT_RANGE": (8_400, 9_000), "ROUTER": "caddy", "CADDY_LISTEN": ":8443"}, "E016"),
        ({"ROUTER": "caddy", "CADDY_LISTEN": "everywhere"}, "E017"),
        ({"ROUTER": "caddy", "CADDY_LISTEN": ":8080", "PORT": 8080}, "E018"),
        ({"UID_RANGE": (0, 5_000)}, "E019"),
        ({"UID_RANGE": (200_000, 2**31)}, "E019"),
        ({"SUBNET_POOL": "10.213.0.1/16"}, "E020"),
        ({"SUBNET_POOL": "8.8.0.0/16"}, "E020"),
        ({"SUBNET_PREFIX": 8}, "E021"),
        ({"SUBNET_PREFIX": 24}, "E022"),
        ({"SUBNET_PREFIX": 20, "TENANTS_PER_NETWORK": 2_000}, "E023"),
        ({"CONTAINER_PREFIX": "x/../y"}, "E024"),
        ({"LOG_MAX_SIZE": "lots"}, "E025"),
        ({"EGRESS_INTERNAL": frozenset({("host.docker.internal", 11434)})}, "E029"),
        ({"METRICS_TOKEN": "secret"}, "E026"),
        ({"HEARTBEAT_URL": "ftp://ping.example.com"}, "E027"),
    ],
)
def test_a_planted_fault_is_seen(settings, planted, id):
    for name, value in planted.items():
        setattr(settings, name, value)
    assert id in ids()


@pytest.fixture
def folder(tmp_path, settings):
    """An installation of its own with sound keys."""
    from zcplatform import keys

    home = tmp_path / "home"
    keys.create_missing(home / "keys", home)
    settings.HOME, settings.KEYS_DIR = home, home / "keys"
    assert ids() == set()
    return home


def test_missing_keys_are_named_with_the_way_out(folder):
    (folder / "keys" / "jwt.key").unlink()
    [message] = checks.check_all()
    assert (message.id, message.hint) == ("zcplatform.E001", "Run: zcplatform bootstrap")
    assert "JWT_KEY" in message.msg


def test_a_missing_installation_id_is_named(folder, settings):
    settings.INSTANCE = ""
    assert ids() == {"E001"}


def test_b10_a_loose_or_short_key_is_seen(folder):
    key = folder / "keys" / "django.key"
    key.chmod(0o640)
    assert ids() == {"E002"}
    key.chmod(0o600)
    key.write_text("short")
    assert ids() == {"E002"}


def test_two_equal_keys_are_seen(folder):
    first, second = (folder / "keys" / name for name in ("django.key", "jwt.key"))
    second.write_text(first.read_text())
    assert ids() == {"E003"}


def test_a_home_that_others_can_write_is_seen(folder):
    folder.chmod(0o777)
    assert ids() == {"E004"}


def test_a_home_that_can_not_be_written_is_seen(folder, monkeypatch):
    monkeypatch.setattr(os, "access", lambda path, mode: False)  # root may write everywhere
    assert ids() == {"E005"}


def test_a_database_open_to_everybody_is_seen(folder, settings):
    path = folder / "z.db"
    path.touch(mode=0o644)
    settings.DATABASES = {"default": {"ENGINE": "django.db.backends.sqlite3", "NAME": str(path)}}
    assert ids() == set()  # nobody gets through the folder
    folder.chmod(0o711)
    assert ids() == {"E006"}
    path.chmod(0o600)
    assert ids() == set()


def test_a_password_in_an_open_file_is_seen(tmp_path, settings):
    path = tmp_path / "platform.toml"
    path.touch(mode=0o644)
    smtp = replace(platform_toml.Smtp(), password="example")
    settings.CONFIG_FILE, settings.TOML = path, replace(settings.TOML, smtp=smtp)
    assert ids() == {"W007"}


def test_the_process_runtime_of_an_ordinary_user_has_to_be_accepted(settings, monkeypatch):
    monkeypatch.setattr(checks.os, "geteuid", lambda: 1000)
    settings.RUNTIME, settings.ALLOW_UNPRIVILEGED_PROCESS = "process", False
    assert "E014" in ids()
    settings.ALLOW_UNPRIVILEGED_PROCESS = True
    assert "E014" not in ids()


def test_every_check_has_a_number_of_its_own():
    source = Path(checks.__file__).read_text()
    numbers = re.findall(r"_(?:error|warning)\((\d+),", source)
    assert sorted({int(n) for n in numbers}) == list(range(1, max(map(int, numbers)) + 1))
