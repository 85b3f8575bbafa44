"""The last words of an agent land in the platform's log folder, wherever the tenant would like them to land (F2)."""

from __future__ import annotations

import os

import pytest

from tenants import last_words
from tenants.runtimes import runtime_for
from zcplatform.lib.errors import RunFailed


@pytest.fixture
def tenant(world):
    made = world.tenant(deploy=True)
    assert made.folder.is_dir()
    return made


def test_f2_planted_log_link_is_not_written_through(tenant, tmp_path):
    victim = tmp_path / "victim"
    victim.write_text("alive")
    log = tenant.folder / "logs" / last_words.NAME
    log.symlink_to(victim)
    last_words.save(tenant, "root::0:0::/:/bin/sh")
    assert victim.read_text() == "alive"
    assert not log.is_symlink()
    assert log.read_text() == "root::0:0::/:/bin/sh"


def test_f2_planted_log_folder_link_costs_the_words_and_not_the_removal(tenant, tmp_path, caplog):
    (tmp_path / "etc").mkdir()
    os.rename(tenant.folder / "logs", tenant.folder / "moved")
    (tenant.folder / "logs").symlink_to(tmp_path / "etc")
    last_words.save(tenant, "text")
    assert list((tmp_path / "etc").iterdir()) == []
    assert "last words are lost" in caplog.text


def test_f2_a_link_in_the_place_of_the_last_words_is_not_read(tenant, tmp_path):
    (tmp_path / "shadow").write_text("root:x")
    (tenant.folder / "logs" / last_words.NAME).symlink_to(tmp_path / "shadow")
    assert last_words.read(tenant) == ""


def test_nothing_to_keep_or_nowhere_to_keep_it_is_fine(tenant):
    last_words.save(tenant, " \n")
    assert list((tenant.folder / "logs").iterdir()) == []
    runtime_for(tenant.node).folders.archive(tenant.folder, tenant.trash)
    last_words.save(tenant, "text")
    assert not tenant.folder.exists()


def test_a_failing_keeper_is_logged(tenant, monkeypatch, caplog):
    def fail(*_args):
        raise RunFailed("no", type="folder_failed")

    monkeypatch.setattr("tenants.folders.DirectFolders.write_log", fail)
    last_words.save(tenant, "text")
    assert "last words are lost" in caplog.text
