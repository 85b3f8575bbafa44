"""The body of ``POST /containers/create``: a pure function of an agent's spec and the settings.

Nothing that a tenant wrote gets here: the spec is made of our own rows, and a container gets exactly the keys that
stand in ``HOST_CONFIG_KEYS``. Another key (``Privileged``, ``Binds``, ``Devices``, ...) is refused before it is sent.
"""

from __future__ import annotations

import math
from typing import Any

from tenants.egress.bridges import GATEWAY_HOST
from tenants.runtimes.base import LABEL_EPOCH, LABEL_INSTANCE, LABEL_RUN, LABEL_SPEC, LABEL_TENANT, AgentSpec
from tenants.runtimes.docker_networks import NetworkPlace
from tenants.states import Reason
from zcplatform.lib.errors import Misconfigured, RunFailed

MIB = 1_048_576
NANO = 1_000_000_000
MAX_MEMORY_MB = 1_048_576
MAX_CPUS = 1_024
MAX_PIDS = 32_768
MAX_PORT = 65_535
MAX_ID = 2**31 - 1
NOFILE = 16_384
STOP_TIMEOUT_S = 10
TMPFS = "rw,noexec,nosuid,size=64m"

BODY_KEYS = frozenset(
    {"Image", "Entrypoint", "Cmd", "Env", "User", "Hostname", "Labels", "ExposedPorts", "StopTimeout"}
    | {"Tty", "OpenStdin", "AttachStdin", "AttachStdout", "AttachStderr", "HostConfig", "NetworkingConfig"}
)
HOST_CONFIG_KEYS = frozenset(
    {"CapDrop", "SecurityOpt", "ReadonlyRootfs", "Tmpfs", "Memory", "MemorySwap", "NanoCpus", "PidsLimit", "Ulimits"}
    | {"RestartPolicy", "Init", "LogConfig", "PortBindings", "Mounts", "NetworkMode", "IpcMode"}
    | {"Dns", "ExtraHosts"}
)


def agent_body(
    spec: AgentSpec, *, place: NetworkPlace, log_max_size: str, log_max_files: int, host_cpus: float
) -> dict[str, Any]:
    """The whole body for ``spec``. RunFailed ``bad_config`` for a limit that the engine would take as "none".

    A plan with more cores than the host has gets all of them: the engine refuses what is not there.
    """
    check_limits(spec)
    port = f"{spec.listen_port}/tcp"
    return {
        "Image": spec.image,
        "Entrypoint": list(spec.argv) or None,
        "Cmd": [] if spec.argv else None,
        "Env": [f"{name}={value}" for name, value in spec.env],
        "User": f"{spec.uid}:{spec.uid}",
        "Hostname": spec.hostname,
        "Labels": labels(spec),
        "ExposedPorts": {port: {}},
        "StopTimeout": STOP_TIMEOUT_S,
        "Tty": False,
        "OpenStdin": False,
        "AttachStdin": False,
        "AttachStdout": False,
        "AttachStderr": False,
        "HostConfig": {
            **confinement(),
            **limits(spec, host_cpus),
            "RestartPolicy": {"Name": "unless-stopped"},
            "Init": True,
            "LogConfig": {
                "Type": "json-file",
                "Config": {"max-size": log_max_size, "max-file": str(log_max_files)},
            },
            "PortBindings": {port: [{"HostIp": "127.0.0.1", "HostPort": str(spec.port)}]},
            "Mounts": [
                bind(f"{spec.folder}/config", spec.config_dir, read_only=True),
                bind(f"{spec.folder}/data", spec.data_dir, read_only=False),
            ],
            "NetworkMode": place.network,
            **behind_proxy(place),
        },
        **fixed_address(place),
    }


def behind_proxy(place: NetworkPlace) -> dict[str, Any]:
    """In a proxied mode the proxy resolves names. A resolver that nobody answers for keeps the engine from asking the
    host's own on the container's behalf, which would carry data out in the names that are asked for."""
    return {"Dns": [place.gateway], "ExtraHosts": [f"{GATEWAY_HOST}:{place.gateway}"]} if place.gateway else {}


def fixed_address(place: NetworkPlace) -> dict[str, Any]:
    if not place.address:
        return {}
    return {"NetworkingConfig": {"EndpointsConfig": {place.network: {"IPAMConfig": {"IPv4Address": place.address}}}}}


def confinement() -> dict[str, Any]:
    """What every container of ours gets, an agent as well as a helper."""
    return {
        "CapDrop": ["ALL"],
        "SecurityOpt": ["no-new-privileges:true"],
        "ReadonlyRootfs": True,
        "Tmpfs": {"/tmp": TMPFS},  # noqa: S108 - the agent's own, in its own memory
        "IpcMode": "private",
    }


def limits(spec: AgentSpec, host_cpus: float) -> dict[str, Any]:
    return {
        "Memory": spec.memory_mb * MIB,
        "MemorySwap": spec.memory_mb * MIB,  # equal: no swap beyond it
        "NanoCpus": round(min(spec.cpus, host_cpus) * NANO),
        "PidsLimit": spec.pids,
        "Ulimits": [
            {"Name": "nofile", "Soft": NOFILE, "Hard": NOFILE},
            {"Name": "core", "Soft": 0, "Hard": 0},
        ],
    }


def labels(spec: AgentSpec) -> dict[str, str]:
    return {
        LABEL_INSTANCE: spec.instance,
        LABEL_TENANT: spec.tenant,
        LABEL_RUN: spec.run,
        LABEL_EPOCH: str(spec.epoch),
        LABEL_SPEC: spec.fingerprint(),
    }


def bind(source: str, target: str, *, read_only: bool) -> dict[str, Any]:
    """A bind mount. Unlike ``Binds``, the engine refuses it when ``source`` is absent instead of making a folder
    that belongs to root."""
    return {
        "Type": "bind",
        "Source": source,
        "Target": target,
        "ReadOnly": read_only,
        "BindOptions": {"Propagation": "rprivate"},
    }


def check_limits(spec: AgentSpec) -> None:
    """Zero, negative and absurd figures are refused: to the engine 0 means "no limit"."""
    _within(spec.memory_mb, 6, MAX_MEMORY_MB, "memory_mb")
    _within(spec.cpus, 0.01, MAX_CPUS, "cpus")
    _within(spec.pids, 1, MAX_PIDS, "pids")
    _within(spec.uid, 1, MAX_ID, "uid")
    _within(spec.port, 1, MAX_PORT, "port")
    _within(spec.listen_port, 1, MAX_PORT, "listen_port")
    if not spec.image.startswith("sha256:"):
        raise RunFailed("An agent runs from an image's id, never from its name.", type=Reason.IMAGE_MISSING)


def _within(value: float, low: float, high: float, field: str) -> None:
    whole = field != "cpus"
    number = type(value) is int or (not whole and type(value) is float and math.isfinite(value))
    if not number or not low <= value <= high:
        raise RunFailed(f"{field} must be from {low} to {high}.", type=Reason.BAD_CONFIG, field=field)


def check_body(body: dict[str, Any]) -> None:
    """Misconfigured when the body has a key that no agent may have."""
    strange = sorted(set(body) - BODY_KEYS) + sorted(set(body["HostConfig"]) - HOST_CONFIG_KEYS)
    if strange:
        raise Misconfigured(f"Not a key of an agent's container: {', '.join(strange)}.")
