"""Images: the demo's from the running interpreter, the others found or pulled."""

from __future__ import annotations

import io
import json
import tarfile
from pathlib import Path

import pytest
from django.core.management import call_command

from tenants.agents.demo import PROGRAM, PROGRAM_IN_IMAGE
from tenants.runtimes import image
from tenants.runtimes.base import LABEL_INSTANCE
from tenants.runtimes.docker_engine import CREATE_S, Refused
from zcplatform.lib.errors import DependencyTimeout, Misconfigured, RunFailed

LDD = """/usr/bin/python3:
\tlinux-vdso.so.1 (0x00007f8682b3f000)
\tlibpython3.11.so.1.0 => /opt/py/lib/libpython3.11.so.1.0 (0x00007f8682400000)
\tlibc.so.6 => /lib/x86_64-linux-gnu/libc.so.6 (0x00007f868221e000)
\tlibgone.so.1 => not found
\t/lib64/ld-linux-x86-64.so.2 (0x00007f8682b41000)
/usr/lib/x.so:
\tstatically linked
"""


def tar_of(content):
    file = io.BytesIO()
    image.write_tar(content, file)
    return file.getvalue()


def test_what_ldd_prints_is_read():
    assert list(image.parse_ldd(LDD)) == [
        ("libpython3.11.so.1.0", "/opt/py/lib/libpython3.11.so.1.0"),
        ("libc.so.6", "/lib/x86_64-linux-gnu/libc.so.6"),
        ("/lib64/ld-linux-x86-64.so.2", "/lib64/ld-linux-x86-64.so.2"),
    ]


def test_an_interpreter_without_a_c_library_is_refused(tmp_path):
    (tmp_path / "text").write_text("no program")
    with pytest.raises(Misconfigured):
        image.shared_libraries([tmp_path / "text"])


def test_the_content_has_what_an_agent_needs_and_nothing_of_the_host():
    content = image.demo_content()
    assert content[PROGRAM_IN_IMAGE.lstrip("/")] == PROGRAM
    assert "usr/bin/python3" in content
    assert any(name.endswith("/asyncio/base_events.py") for name in content)
    assert not [name for name in content if "site-packages" in name or "/test/" in name or "idlelib" in name]
    assert {str(Path(name).parent) for name in content if name.startswith("etc/")} == {"etc"}
    assert all(isinstance(content[name], bytes) for name in content if name.startswith("etc/"))


def test_the_same_content_makes_the_same_tar_whatever_the_files_times_and_order(tmp_path):
    one, two = tmp_path / "one", tmp_path / "two"
    one.write_bytes(b"same")
    two.write_bytes(b"same")
    one.touch(0o600)
    two.chmod(0o777)
    left = tar_of({"usr/bin/python3": one, "a/b": b"x"})
    right = tar_of({"a/b": b"x", "usr/bin/python3": two})
    assert left == right
    with tarfile.open(fileobj=io.BytesIO(left)) as tar:
        entries = {entry.name: entry for entry in tar}
    assert {entry.mtime for entry in entries.values()} == {0}
    assert (entries["tmp"].mode, entries["usr/bin/python3"].mode, entries["a/b"].mode) == (0o1777, 0o755, 0o644)


def test_the_hash_follows_the_agents_program(monkeypatch, tmp_path):
    before = image.demo_hash.__wrapped__()
    assert before == image.demo_hash.__wrapped__()
    changed = tmp_path / "demo_agent.py"
    changed.write_bytes(PROGRAM.read_bytes() + b"\n# changed\n")
    monkeypatch.setattr(image, "PROGRAM", changed)
    assert image.demo_hash.__wrapped__() != before


@pytest.mark.parametrize(
    ("name", "there"),
    [
        ("ghcr.io/zeroclaw-labs/zeroclaw:0.8.4", True),
        ("localhost/a:1", True),
        ("host:5000/a/b", True),
        ("zcplatform-openclaw:2026.9.6", False),
        ("library/python", False),
        ("a b.c/d", False),
    ],
)
def test_a_name_with_a_host_in_it_is_on_a_registry(name, there):
    assert image._is_on_a_registry(name) is there


class PullOnly:
    """An engine without any image, whose pull does as told."""

    def __init__(self, error):
        self.error, self.pulled = error, []

    def call(self, verb, *args, **kwargs):
        if verb == "pull":
            self.pulled.append((*args, kwargs["tag"], kwargs["limit_s"]))
            raise self.error
        raise Refused("No such image", type="image_missing", http_status=404)


@pytest.mark.parametrize(
    ("name", "pulled"),
    [
        ("ghcr.io/a/b:1.2", ("ghcr.io/a/b", "1.2")),
        ("ghcr.io:5000/a/b", ("ghcr.io:5000/a/b", "latest")),
        ("ghcr.io/a/b@sha256:" + "0" * 64, ("ghcr.io/a/b", "sha256:" + "0" * 64)),
    ],
)
def test_r15_a_pull_that_fails_is_image_missing_and_has_ten_minutes(name, pulled):
    engine = PullOnly(Refused("unauthorized", type="internal_error", http_status=500))
    with pytest.raises(RunFailed) as failed:
        image.ensure_image(engine, name)
    assert failed.value.type == "image_missing"
    assert engine.pulled == [(*pulled, 600)]


def test_r15_a_pull_that_takes_too_long_is_tried_again():
    with pytest.raises(DependencyTimeout):
        image.ensure_image(PullOnly(DependencyTimeout("late")), "ghcr.io/a/b:1")


@pytest.mark.docker
@pytest.mark.parametrize("name", ["zcplatform-nothing:1", "sha256:" + "0" * 64])
def test_what_can_not_be_pulled_is_image_missing_at_once(installation, name):
    with pytest.raises(RunFailed) as failed:
        installation.ensure_image(name)
    assert failed.value.type == "image_missing"


@pytest.mark.docker
def test_r15_a_registry_that_is_not_there_is_image_missing(installation):
    with pytest.raises(RunFailed) as failed:
        installation.ensure_image("127.0.0.1:1/zcplatform/nothing:1")
    assert failed.value.type == "image_missing"


@pytest.fixture
def own_repository(installation, monkeypatch):
    """A repository of the test's own, since others on this engine use the real one; what is built there goes."""
    engine, built = installation.engine, []
    build = image.build_demo_image

    def remembered(engine):
        built.append(build(engine))
        return built[-1]

    monkeypatch.setattr(image, "DEMO_REPOSITORY", "zctest-demo")
    monkeypatch.setattr(image, "build_demo_image", remembered)
    yield built
    for found in built:
        engine.call("remove_image", found, force=True, limit_s=CREATE_S)


@pytest.mark.docker
def test_the_demo_image_is_built_once_and_again_when_it_is_gone(installation, own_repository, monkeypatch):
    monkeypatch.setattr(image, "demo_content", lambda: {"small": b"content"})
    monkeypatch.setattr(image, "demo_hash", image.demo_hash.__wrapped__)
    engine, tagged = installation.engine, f"zctest-demo:{image.demo_hash()[:12]}"
    first = image.ensure_demo_image(engine)
    assert image.ensure_demo_image(engine) == first
    assert {"zctest-demo:latest", tagged} == set(image.image_facts(engine, first)["names"])
    engine.call("remove_image", tagged, limit_s=CREATE_S)
    assert image.image_id(engine, image.ensure_demo_image(engine))
    assert len(own_repository) == 2


@pytest.mark.docker
def test_the_interpreter_inside_is_whole(installation, own_repository, settings):
    """Really built; as nobody, with a read-only root and no network: the modules that need libraries of their own."""
    source = "import asyncio, bz2, ctypes, hashlib, http.server, json, lzma, sqlite3, ssl, sys, zlib; print('whole')"
    body = {
        "Image": image.build_demo_image(installation.engine),
        "Cmd": ["-c", f"{source}; print(asyncio.__cached__)"],
        "User": "65534",
        "Labels": {LABEL_INSTANCE: settings.INSTANCE},
        "HostConfig": {"ReadonlyRootfs": True, "NetworkMode": "none"},
    }
    container = installation.engine.call("create_container_from_config", body, limit_s=CREATE_S)["Id"]
    try:
        installation.engine.call("start", container, limit_s=CREATE_S)
        ended = installation.engine.call("wait", container, limit_s=CREATE_S)
        said = installation.engine.call("logs", container).decode().split()
        assert (ended["StatusCode"], said[0]) == (0, "whole")
        assert said[1].endswith(".pyc")
    finally:
        installation.engine.call("remove_container", container, force=True)


@pytest.mark.docker
def test_build_image_prints_name_id_size_and_seconds(capsys):
    call_command("build_image", "--json")
    told = json.loads(capsys.readouterr().out)
    assert f"zcplatform-demo:{image.demo_hash()[:12]}" in told["names"]
    assert told["id"].startswith("sha256:")
    assert told["size"] > 1_000_000
    assert told["seconds"] >= 0
    call_command("build_image", "--kind", "demo")
    assert told["id"] in capsys.readouterr().out
