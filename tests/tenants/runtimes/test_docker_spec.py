"""The body of a container's creation: golden, closed, and refusing what the engine would take as "no limit"."""

from __future__ import annotations

import json
import math
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tenants.runtimes.base import AgentSpec
from tenants.runtimes.docker_networks import NetworkPlace
from tenants.runtimes.docker_spec import BODY_KEYS, HOST_CONFIG_KEYS, agent_body, check_body
from zcplatform.lib.errors import Misconfigured, RunFailed

SPEC = AgentSpec(
    instance="abcdef012345",
    tenant="0b5d6c0e-5a68-4f0e-9d4e-7f3a4a2f9c11",
    name="zcplatform-acme",
    hostname="0b5d6c0e-5a68-4f0e-9d4e-7f3a4a2f9c11",
    kind="demo",
    run="run-1",
    epoch=3,
    slot=7,
    port=10_007,
    uid=200_006,
    image="sha256:" + "ab" * 32,
    argv=("/usr/bin/python3", "/opt/zcplatform/demo_agent.py"),
    env=(("HOME", "/data"), ("LANG", "C.UTF-8")),
    config_dir="/config",
    data_dir="/data",
    listen_port=8080,
    memory_mb=256,
    cpus=0.25,
    pids=64,
    folder="/srv/zcplatform/tenants/0b5d6c0e-5a68-4f0e-9d4e-7f3a4a2f9c11",
    config_hash="0011",
)
GOLDEN = {
    "Image": "sha256:abababababababababababababababababababababababababababababababab",
    "Entrypoint": ["/usr/bin/python3", "/opt/zcplatform/demo_agent.py"],
    "Cmd": [],
    "Env": ["HOME=/data", "LANG=C.UTF-8"],
    "User": "200006:200006",
    "Hostname": "0b5d6c0e-5a68-4f0e-9d4e-7f3a4a2f9c11",
    "Labels": {
        "zcplatform.instance": "abcdef012345",
        "zcplatform.tenant": "0b5d6c0e-5a68-4f0e-9d4e-7f3a4a2f9c11",
        "zcplatform.run": "run-1",
        "zcplatform.epoch": "3",
        "zcplatform.spec": SPEC.fingerprint(),
    },
    "ExposedPorts": {"8080/tcp": {}},
    "StopTimeout": 10,
    "Tty": False,
    "OpenStdin": False,
    "AttachStdin": False,
    "AttachStdout": False,
    "AttachStderr": False,
    "HostConfig": {
        "CapDrop": ["ALL"],
        "SecurityOpt": ["no-new-privileges:true"],
        "ReadonlyRootfs": True,
        "Tmpfs": {"/tmp": "rw,noexec,nosuid,size=64m"},
        "IpcMode": "private",
        "Memory": 268_435_456,
        "MemorySwap": 268_435_456,
        "NanoCpus": 250_000_000,
        "PidsLimit": 64,
        "Ulimits": [{"Name": "nofile", "Soft": 16_384, "Hard": 16_384}, {"Name": "core", "Soft": 0, "Hard": 0}],
        "RestartPolicy": {"Name": "unless-stopped"},
        "Init": True,
        "LogConfig": {"Type": "json-file", "Config": {"max-size": "50m", "max-file": "3"}},
        "PortBindings": {"8080/tcp": [{"HostIp": "127.0.0.1", "HostPort": "10007"}]},
        "Mounts": [
            {
                "Type": "bind",
                "Source": "/srv/zcplatform/tenants/0b5d6c0e-5a68-4f0e-9d4e-7f3a4a2f9c11/config",
                "Target": "/config",
                "ReadOnly": True,
                "BindOptions": {"Propagation": "rprivate"},
            },
            {
                "Type": "bind",
                "Source": "/srv/zcplatform/tenants/0b5d6c0e-5a68-4f0e-9d4e-7f3a4a2f9c11/data",
                "Target": "/data",
                "ReadOnly": False,
                "BindOptions": {"Propagation": "rprivate"},
            },
        ],
        "NetworkMode": "zcplatform-internal-0",
    },
}


def body(spec: AgentSpec = SPEC, host_cpus: float = 64) -> dict:
    return agent_body(
        spec, place=NetworkPlace("zcplatform-internal-0"), log_max_size="50m", log_max_files=3, host_cpus=host_cpus
    )


def test_g8_the_whole_body_is_golden():
    assert json.dumps(body(), indent=1) == json.dumps(GOLDEN, indent=1)


def test_a_plan_with_more_cores_than_the_host_gets_all_of_them():
    wide = replace(SPEC, cpus=4.0)
    assert body(wide, host_cpus=2)["HostConfig"]["NanoCpus"] == 2_000_000_000
    assert body(wide, host_cpus=2)["Labels"] == body(wide)["Labels"], "the same agent on a larger host"


def test_g8_behind_the_proxy_a_container_has_a_fixed_address_and_nobody_to_ask_for_names():
    place = NetworkPlace("zcplatform-internal-0-gateway", "10.213.4.9", "10.213.4.1")
    made = agent_body(SPEC, place=place, log_max_size="50m", log_max_files=3, host_cpus=64)
    assert made.pop("NetworkingConfig") == {
        "EndpointsConfig": {"zcplatform-internal-0-gateway": {"IPAMConfig": {"IPv4Address": "10.213.4.9"}}}
    }
    host = made["HostConfig"]
    assert (host.pop("Dns"), host.pop("ExtraHosts")) == (["10.213.4.1"], ["gateway.internal:10.213.4.1"])
    host["NetworkMode"] = GOLDEN["HostConfig"]["NetworkMode"]
    assert made == GOLDEN


def test_g8_the_closed_sets_of_keys_are_those_of_the_golden_body():
    """And the three that the proxied modes add."""
    assert {*GOLDEN, "NetworkingConfig"} == BODY_KEYS
    assert {*GOLDEN["HostConfig"], "Dns", "ExtraHosts"} == HOST_CONFIG_KEYS
    check_body(body())


@pytest.mark.parametrize(
    "key",
    [
        *("Privileged", "CapAdd", "Binds", "PidMode", "Devices", "DeviceRequests", "Sysctls", "UsernsMode", "Runtime"),
        *("CgroupParent", "GroupAdd", "VolumesFrom", "DnsOptions", "PublishAllPorts", "UTSMode", "OomScoreAdj"),
    ],
)
def test_g8_an_unknown_key_of_host_config_fails(key):
    tampered = body()
    tampered["HostConfig"][key] = None
    with pytest.raises(Misconfigured, match=key):
        check_body(tampered)


def test_g8_an_unknown_key_of_the_body_fails():
    with pytest.raises(Misconfigured, match="NetworkDisabled"):
        check_body({**body(), "NetworkDisabled": False})


@pytest.mark.parametrize("field", ["memory_mb", "cpus", "pids", "uid", "port", "listen_port"])
@pytest.mark.parametrize("value", [0, -1, 10**12, math.nan, math.inf, None, "1", True])
def test_g9_a_limit_that_would_be_none_is_refused(field, value):
    with pytest.raises(RunFailed) as refused:
        body(replace(SPEC, **{field: value}))
    assert refused.value.type == "bad_config"
    assert refused.value.details == {"field": field}


def test_g7_an_image_goes_by_its_id_only():
    with pytest.raises(RunFailed) as refused:
        body(replace(SPEC, image="zcplatform-demo:latest"))
    assert refused.value.type == "image_missing"


def test_an_empty_command_leaves_the_images_own():
    made = body(replace(SPEC, argv=()))
    assert (made["Entrypoint"], made["Cmd"]) == (None, None)


@given(
    port=st.integers(1, 65_535),
    text=st.text(max_size=40),
    argv=st.lists(st.text(max_size=20), min_size=1, max_size=3),
)
def test_d7_no_text_reaches_address_port_mount_or_privilege(port, text, argv):
    """Whatever stands in the free fields, what confines the container is made of integers and our own folder."""
    made = body(replace(SPEC, port=port, hostname=text, kind=text, config_hash=text, argv=tuple(argv)))
    host = made["HostConfig"]
    assert host["PortBindings"] == {"8080/tcp": [{"HostIp": "127.0.0.1", "HostPort": str(port)}]}
    assert {**host, "PortBindings": GOLDEN["HostConfig"]["PortBindings"]} == GOLDEN["HostConfig"]
    assert made["User"] == GOLDEN["User"]
    assert made["Entrypoint"] == argv
