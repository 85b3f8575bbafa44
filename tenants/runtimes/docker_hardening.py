"""Whether a container still is what its spec asks for: ``inspect`` against the body it would be created with. Pure.

An engine's operator can loosen a container behind our back (``docker update``, ``docker network connect``), and an
older version of the platform may have asked for less.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from tenants.runtimes.base import LABEL_EPOCH, LABEL_RUN
from tenants.runtimes.docker_observed import labels_of

# Where a value other than nothing opens the container: all that ``docker_spec`` never asks for.
OPENINGS = (
    "Privileged", "CapAdd", "Devices", "DeviceRequests", "DeviceCgroupRules", "Binds", "VolumesFrom", "PidMode",
    "UTSMode", "UsernsMode", "GroupAdd", "ExtraHosts", "Sysctls", "PublishAllPorts", "OomKillDisable", "Links",
)  # fmt: skip
FENCES = (LABEL_RUN, LABEL_EPOCH)  # an adopted container keeps those of the run that made it


def deviations(raw: Mapping[str, Any], body: Mapping[str, Any]) -> list[str]:
    """How the container of ``raw`` differs from ``body``, a line each; empty when it does not."""
    found = [*_config(raw["Config"], body), *_host(raw["HostConfig"], body["HostConfig"])]
    found += _differ("mounts", _mounts(raw["Mounts"]), _asked_mounts(body["HostConfig"]["Mounts"]))
    found += _differ("networks", sorted(raw["NetworkSettings"]["Networks"]), [body["HostConfig"]["NetworkMode"]])
    labels = {name: value for name, value in body["Labels"].items() if name not in FENCES}
    return found + [
        line for name, value in labels.items() for line in _differ(f"label {name}", labels_of(raw).get(name), value)
    ]


def _config(found: Mapping[str, Any], body: Mapping[str, Any]) -> Iterator[str]:
    yield from _differ("image", found["Image"], body["Image"])
    yield from _differ("user", found["User"], body["User"])
    if body["Entrypoint"]:
        yield from _differ("command", [*(found["Entrypoint"] or []), *(found["Cmd"] or [])], body["Entrypoint"])
    for line in set(body["Env"]) - set(found["Env"] or []):
        yield f"the environment lacks {line.partition('=')[0]}"


def _host(found: Mapping[str, Any], wanted: Mapping[str, Any]) -> Iterator[str]:
    for name in wanted:
        if name != "Mounts":
            yield from _differ(name, _plain(name, found.get(name)), _plain(name, wanted[name]))
    for name in OPENINGS:
        if found.get(name) and name not in wanted:
            yield f"{name} is {found[name]!r}, not empty"


def _plain(name: str, value: Any) -> Any:
    """Without the order of a list, and without what the engine adds to what it was given."""
    if name == "RestartPolicy":
        return (value or {}).get("Name")
    if name == "Ulimits":
        return sorted((limit["Name"], limit["Soft"], limit["Hard"]) for limit in value or [])
    if name in ("CapDrop", "SecurityOpt"):
        return sorted(value or [])
    return value


def _mounts(found: list[dict[str, Any]]) -> list[tuple[Any, ...]]:
    return sorted((m["Type"], m["Source"], m["Destination"], "rw" if m["RW"] else "ro") for m in found)


def _asked_mounts(wanted: list[dict[str, Any]]) -> list[tuple[Any, ...]]:
    return sorted((m["Type"], m["Source"], m["Target"], "ro" if m["ReadOnly"] else "rw") for m in wanted)


def _differ(name: str, found: Any, wanted: Any) -> list[str]:
    return [] if found == wanted else [f"{name} is {found!r}, not {wanted!r}"]
