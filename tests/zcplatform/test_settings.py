"""Settings as an operator meets them: a process of its own, the environment, a platform.toml."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from django.core.exceptions import ImproperlyConfigured

from zcplatform import keys
from zcplatform.lib import env

ROOT = Path(__file__).resolve().parents[2]
SECRETS = ["SECRET_KEY", "JWT_KEY", "PEPPER", "VAULT_PASSPHRASE", "SMTP_PASSWORD", "DATABASE_URL", "REDIS_URL"]


@pytest.fixture
def home(tmp_path):
    keys.create_missing(tmp_path / "home" / "keys")
    return tmp_path / "home"


def manage(home, *arguments, **variables):
    kept = {name: value for name, value in os.environ.items() if not name.startswith("ZCPLATFORM_")}
    ours = {f"ZCPLATFORM_{name}": str(value) for name, value in variables.items()}
    base = {
        "ZCPLATFORM_HOME": str(home),
        "ZCPLATFORM_CONFIG": str(home / "platform.toml"),
        "ZCPLATFORM_ALLOW_UNPRIVILEGED_PROCESS": "1",
    }
    kept["DJANGO_SETTINGS_MODULE"] = "zcplatform.settings"
    return subprocess.run(
        [sys.executable, "manage.py", *arguments], cwd=ROOT, env=kept | base | ours, capture_output=True, text=True
    )


def setting(home, name, **variables):
    code = f"from zcplatform import settings; print(settings.{name})"
    done = manage(home, "shell", "--no-imports", "-c", code, **variables)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def test_check_deploy_is_clean_behind_https(home):
    done = manage(
        home, "check", "--deploy", "--fail-level", "WARNING", PUBLIC_BASE_URL="https://agents.example.com", DEBUG="0"
    )
    assert done.returncode == 0, done.stderr


def test_before_bootstrap_a_missing_key_is_named_and_using_it_fails_loudly(tmp_path):
    done = manage(tmp_path / "empty", "check")
    assert done.returncode == 1
    assert "zcplatform.E001" in done.stderr
    assert "Run: zcplatform bootstrap" in done.stderr
    assert not (tmp_path / "empty").exists()
    code = "from django.conf import settings; settings.SECRET_KEY"
    used = manage(tmp_path / "empty", "shell", "--no-imports", "-c", code)
    assert "The SECRET_KEY setting must not be empty" in used.stderr


def test_cookies_bear_host_names_behind_https_only(home):
    names = "SESSION_COOKIE_NAME, settings.CSRF_COOKIE_NAME, settings.SESSION_COOKIE_SECURE"
    assert setting(home, names) == "zc_session zc_csrf False"
    behind = setting(home, names, PUBLIC_BASE_URL="https://agents.example.com")
    assert behind == "__Host-zc_session __Host-zc_csrf True"


def test_platform_toml_is_read_and_the_environment_wins(home):
    (home / "platform.toml").write_text('[server]\ndomain = "agents.example.com"\nport = 9000\n')
    assert setting(home, "DOMAIN, settings.PORT", PORT=9001) == "agents.example.com 9001"


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("PORT", "eighty"),
        ("PORT", "0"),
        ("PORT", "70000"),
        ("WEB_WORKERS", "-1"),
        ("DEBUG", "maybe"),
        ("PORT_RANGE", "200-100"),
        ("ROUTER", "nginx"),
        ("LOG_LEVEL", "loud"),
        ("LOG_FORMAT", "xml"),
        ("INSTANCE", "../x"),
        ("SECRET_KEY", "short"),
        ("PUBLIC_BASE_URL", "agents.example.com"),
        ("PUBLIC_BASE_URL", "ftp://agents.example.com"),
        ("PUBLIC_BASE_URL", "https://agents.example.com/path"),
        ("PUBLIC_BASE_URL", "https://user@agents.example.com"),
        ("DATABASE_URL", "nothing://user:canary-71@host/db"),
        ("REDIS_URL", "host:6379"),
        ("REDIS_URL", "http://:canary-71@host/0"),
        ("REDIS_URL", "redis://:canary-71@/0"),
        ("REDIS_URL", "redis://:canary-71@host:port/0"),
        ("REDIS_URL", "redis://:canary-71@host:0/0"),
        ("REDIS_URL", "redis://:canary-71@host/zero"),
        ("REDIS_URL", "redis://:canary-71#x@host/0"),
        ("REDIS_URL", "redis://:canary-71/x@host/0"),
        ("REDIS_URL", "redis://:canary-71[@host/0"),
        ("REDIS_URL", "redis://host/0?password=canary-71"),
        ("REDIS_URL", "unix://run/redis.sock"),
        ("REDIS_URL", "unix://"),
    ],
)
def test_a_bad_value_stops_the_start_and_names_its_variable(home, name, value):
    done = manage(home, "check", **{name: value})
    assert done.returncode == 1
    (line,) = done.stderr.strip().splitlines()
    assert f"ZCPLATFORM_{name}" in line
    assert "canary-71" not in done.stderr


@pytest.mark.parametrize(
    "value",
    ["", "redis://host", "redis://:pass-word-1@[::1]:6379/3", "rediss://user:p%40ss-word@host:6380", "unix:///s"],
)
def test_an_address_of_redis_is_taken_as_it_is(monkeypatch, value):
    monkeypatch.setenv("ZCPLATFORM_REDIS_URL", value)
    assert env.redis_url("REDIS_URL") == value


def test_redis_without_its_library_stops_the_start(monkeypatch):
    monkeypatch.setenv("ZCPLATFORM_REDIS_URL", "redis://:canary-71@host")
    monkeypatch.setattr(env, "find_spec", lambda _name: None)
    with pytest.raises(ImproperlyConfigured, match="extra “redis”") as refused:
        env.redis_url("REDIS_URL")
    assert "canary-71" not in str(refused.value)


def test_the_password_of_redis_is_a_secret_in_either_spelling(home):
    url = "redis://:canary%4071x@127.0.0.1:1/0"
    code = (
        "from zcplatform.lib.redact import scrub; import zcplatform.settings; print(scrub('canary%4071x canary@71x'))"
    )
    assert manage(home, "shell", "--no-imports", "-c", code, REDIS_URL=url).stdout.strip() == "*** ***"


@pytest.mark.parametrize("name", SECRETS)
def test_every_secret_can_come_from_a_file(monkeypatch, tmp_path, name):
    path = tmp_path / "secret"
    path.write_text("value-from-a-file\n")
    monkeypatch.delenv(env.PREFIX + name, raising=False)
    monkeypatch.setenv(f"{env.PREFIX}{name}_FILE", str(path))
    assert env.raw(name) == "value-from-a-file"
    monkeypatch.setenv(env.PREFIX + name, "and-directly")
    with pytest.raises(ImproperlyConfigured, match=rf"{name} or .*{name}_FILE, not both"):
        env.raw(name)


@pytest.mark.parametrize("name", SECRETS)
def test_the_settings_read_every_secret_through_that_door(name):
    text = (ROOT / "zcplatform" / "settings.py").read_text()
    assert any(f'{reader}("{name}"' in text for reader in ("env.text", "env.redis_url", "keys.read"))


@pytest.mark.parametrize("content", [b"\xff\xfe\x00", None])
def test_a_file_that_can_not_be_read_is_named(monkeypatch, tmp_path, content):
    path = tmp_path / "secret"
    if content is not None:
        path.write_bytes(content)
    monkeypatch.setenv("ZCPLATFORM_SMTP_PASSWORD_FILE", str(path))
    with pytest.raises(ImproperlyConfigured, match="ZCPLATFORM_SMTP_PASSWORD_FILE"):
        env.raw("SMTP_PASSWORD")


def test_secrets_of_the_settings_are_never_logged(settings):
    from zcplatform.lib.redact import scrub

    for name in ("SECRET_KEY", "JWT_KEY", "PEPPER"):
        assert getattr(settings, name) not in scrub(f"x {getattr(settings, name)} y")
