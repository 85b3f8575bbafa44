"""The tenants' networks on a real engine."""

from __future__ import annotations

import multiprocessing
import uuid
from ipaddress import IPv4Network, ip_network

import pytest

from tenants.egress import firewall
from tenants.egress.bridges import bridge_name
from tenants.egress.bridges import present as bridges_present
from tenants.runtimes.base import LABEL_INSTANCE
from tenants.runtimes.docker import DockerRuntime
from tenants.runtimes.docker_networks import BRIDGE_NAME, free_subnet, network_name, ours, place
from tenants.states import Egress
from tests.tenants.runtimes.contract import together
from zcplatform.lib.errors import RunFailed

pytestmark = pytest.mark.docker
FAR = 1_000_000  # slots whose networks no other test of this installation uses


@pytest.fixture
def runtime(installation):
    yield installation
    installation.remove_unused_networks()


def named(runtime, name):
    return [n for n in runtime.engine.call("networks", names=[name]) if n["Name"] == name]


def foreign(runtime, name, subnet=None):
    ipam = {"Driver": "default", "Config": [{"Subnet": subnet}] if subnet else []}
    label = {LABEL_INSTANCE: f"other{uuid.uuid4().hex[:8]}"}
    return runtime.engine.call("create_network", name, driver="bridge", ipam=ipam, labels=label, limit_s=30)["Id"]


def test_five_hundred_slots_share_a_network(settings):
    settings.CONTAINER_PREFIX = "acme"
    assert [network_name(slot) for slot in (0, 499, 500)] == ["acme-internal-0", "acme-internal-0", "acme-internal-1"]


def test_a_network_has_our_label_our_subnet_and_no_traffic_between_containers(runtime, settings):
    name = runtime.ensure_network(FAR)
    (network,) = named(runtime, name)
    assert network["Labels"] == {LABEL_INSTANCE: settings.INSTANCE}
    assert network["Options"]["com.docker.network.bridge.enable_icc"] == "false"
    assert network["Options"]["com.docker.network.bridge.host_binding_ipv4"] == "127.0.0.1"
    (config,) = network["IPAM"]["Config"]
    assert ip_network(config["Subnet"]).subnet_of(IPv4Network(settings.SUBNET_POOL))
    assert not network["Internal"]


def test_each_mode_has_a_network_and_a_bridge_that_its_rules_go_by(runtime, settings):
    names = {mode: runtime.ensure_network(FAR, mode) for mode in Egress}
    assert names[Egress.OPEN] == network_name(FAR)
    bridges = {mode: named(runtime, name)[0]["Options"][BRIDGE_NAME] for mode, name in names.items()}
    assert bridges == {mode: bridge_name(mode, FAR // 500) for mode in Egress}
    present = {bridge.name: bridge for bridge in bridges_present()}
    assert all(present[bridges[mode]].mode == mode for mode in Egress)
    seat = place(runtime.engine, FAR + 3, Egress.GATEWAY)
    assert present[bridges[Egress.GATEWAY]].address == seat.gateway
    assert present[bridges[Egress.GATEWAY]].slot_of(seat.address) == FAR + 3, "the proxy finds the slot again"


def test_a_network_whose_bridge_the_rules_do_not_know_is_not_used(runtime, settings):
    label = {LABEL_INSTANCE: settings.INSTANCE}
    made = runtime.engine.call("create_network", network_name(FAR), driver="bridge", labels=label, limit_s=30)
    try:
        with pytest.raises(RunFailed, match="earlier version"):
            runtime.ensure_network(FAR)
    finally:
        runtime.engine.call("remove_network", made["Id"])


def test_a_container_behind_the_proxy_has_the_slots_address_and_no_deviations(docker_bench, runtime):
    runtime.ensure_network(7, Egress.ALLOWLIST)
    spec, handle = docker_bench.serving(slot=7, egress=Egress.ALLOWLIST)
    seat = place(runtime.engine, 7, Egress.ALLOWLIST)
    attached = runtime.engine.call("inspect_container", handle.id)["NetworkSettings"]["Networks"]
    assert {name: network["IPAddress"] for name, network in attached.items()} == {seat.network: seat.address}
    assert docker_bench.runtime.deviations(spec, handle) == []
    # Made anew, as after a crash, it gets the same address again.
    docker_bench.runtime.remove(handle)
    again = docker_bench.runtime.create(spec)
    docker_bench.runtime.start(again)
    attached = runtime.engine.call("inspect_container", again.id)["NetworkSettings"]["Networks"]
    assert attached[seat.network]["IPAddress"] == seat.address


def test_the_last_network_takes_the_rules_with_it(runtime, settings):
    if firewall.unenforceable(settings.DOCKER_HOST):
        pytest.skip("the rules can't be set here")
    runtime.ensure_network(FAR, Egress.GATEWAY)
    firewall.apply()
    assert firewall.differences() == []
    runtime.remove_unused_networks()
    if not ours(runtime.engine):
        assert firewall.differences() != []


def test_ten_threads_make_one_network(runtime):
    names = together(10, lambda _: DockerRuntime().ensure_network(FAR))
    assert len(set(names)) == 1
    assert len(named(runtime, names[0])) == 1


def _ensure(slot):
    return DockerRuntime().ensure_network(slot)


def test_four_processes_make_one_network_for_each_of_two_slots(runtime):
    slots = [FAR, FAR + 500, FAR, FAR + 500]
    with multiprocessing.get_context("fork").Pool(4) as pool:
        names = pool.map(_ensure, slots, chunksize=1)
    assert names[0] == names[2] != names[1] == names[3]
    assert [len(named(runtime, name)) for name in names[:2]] == [1, 1]


def test_a_twin_of_ours_is_removed_and_the_oldest_stays(runtime):
    name = runtime.ensure_network(FAR)
    (first,) = named(runtime, name)
    label = {LABEL_INSTANCE: first["Labels"][LABEL_INSTANCE]}
    runtime.engine.call("create_network", name, driver="bridge", labels=label, limit_s=30)
    assert len(named(runtime, name)) == 2
    assert runtime.ensure_network(FAR) == name
    assert [network["Id"] for network in named(runtime, name)] == [first["Id"]]


def test_a_network_of_another_installation_is_never_taken(runtime):
    other = foreign(runtime, network_name(FAR))
    try:
        with pytest.raises(RunFailed) as failed:
            runtime.ensure_network(FAR)
        assert failed.value.type == "network_failed"
        assert other not in runtime.remove_unused_networks()
        assert [network["Id"] for network in named(runtime, network_name(FAR))] == [other]
    finally:
        runtime.engine.call("remove_network", other)


def test_a_subnet_that_another_installation_uses_is_skipped(runtime, settings):
    pool = list(IPv4Network(settings.SUBNET_POOL).subnets(new_prefix=21))[-1]
    first, second = pool.subnets()
    settings.SUBNET_POOL = str(pool)
    other = foreign(runtime, f"zct-{uuid.uuid4().hex[:8]}", f"{first.network_address}/24")
    try:
        (network,) = named(runtime, runtime.ensure_network(FAR))
        assert network["IPAM"]["Config"][0]["Subnet"] == str(second)
        with pytest.raises(RunFailed) as failed:
            runtime.ensure_network(FAR + 500)
        assert failed.value.type == "network_failed"
    finally:
        runtime.engine.call("remove_network", other)


def test_free_subnet_takes_the_first_that_overlaps_nothing(settings):
    settings.SUBNET_POOL, settings.SUBNET_PREFIX = "10.0.0.0/16", 22
    taken = [IPv4Network("10.0.0.0/24"), IPv4Network("10.0.4.0/23")]
    assert free_subnet(taken) == IPv4Network("10.0.8.0/22")
    with pytest.raises(RunFailed):
        free_subnet([IPv4Network("10.0.0.0/8")])


def test_only_unused_networks_of_ours_are_removed(runtime, docker_bench):
    spec = docker_bench.make_spec()
    runtime.start(runtime.create(spec))
    unused = runtime.ensure_network(FAR)
    assert runtime.remove_unused_networks() == [unused]
    assert len(named(runtime, network_name(spec.slot))) == 1
