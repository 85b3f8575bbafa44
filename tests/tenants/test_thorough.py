"""Where reading a configuration costs a helper container, a sweep leaves it alone and the command does not."""

from __future__ import annotations

import pytest
from django.core.management import call_command

from tenants import reconcile
from tenants.folders import DirectFolders
from tenants.runtimes import runtime_for
from tenants.runtimes.docker_folders import HelperFolders


class CountingFolders(DirectFolders):
    def __init__(self, *, cheap: bool):
        self.cheap, self.reads = cheap, 0

    def read_config(self, folder):
        self.reads += 1
        return super().read_config(folder)


@pytest.fixture
def counting(world, monkeypatch):
    """Two running tenants, the configuration of the first changed behind our back, and a keeper that counts."""

    def make(*, cheap: bool) -> CountingFolders:
        first, _ = world.tenant("One", deploy=True), world.tenant("Two", deploy=True)
        config = first.folder / "config" / "demo.json"
        config.unlink()
        config.write_text("{}")
        keeper = CountingFolders(cheap=cheap)
        monkeypatch.setattr(runtime_for(world.node()), "folders", keeper)
        return keeper

    return make


def whats(found):
    return [item.difference.what for item in found]


def test_the_keepers_say_whether_reading_is_cheap():
    assert (DirectFolders.cheap, HelperFolders.cheap) == (True, False)


def test_a_sweep_reads_no_configuration_where_that_is_dear(world, counting):
    keeper = counting(cheap=False)
    assert whats(reconcile.look(world.node())) == []
    assert reconcile.sweep() == 0
    assert keeper.reads == 0


def test_a_sweep_reads_every_configuration_where_that_is_cheap(world, counting):
    keeper = counting(cheap=True)
    assert whats(reconcile.look(world.node())) == ["config_differs"]
    assert keeper.reads == 2


def test_a_sweep_still_misses_no_folder_where_reading_is_dear(world, counting):
    counting(cheap=False)
    tenant = world.tenant("Three", deploy=True)
    runtime_for(world.node()).folders.archive(tenant.folder, tenant.trash)
    assert whats(reconcile.look(world.node())) == ["folder_absent"]


def test_a_thorough_look_finds_it_and_acting_on_it_asks_for_a_run(world, counting):
    keeper = counting(cheap=False)
    found = reconcile.look(world.node(), thorough=True)
    assert whats(found) == ["config_differs"]
    assert keeper.reads == 2
    assert len(reconcile.act(world.node(), found)) == 1


def test_the_command_looks_thoroughly(counting, capsys):
    counting(cheap=False)
    call_command("reconcile", "--dry-run")
    assert "config_differs" in capsys.readouterr().out
