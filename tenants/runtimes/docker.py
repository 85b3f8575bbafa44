"""Agents as containers of a Docker Engine: found by labels, acted on by id, never touched when they are not ours."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property
from pathlib import Path, PurePosixPath
from typing import Any

from django.conf import settings

from tenants.egress import firewall
from tenants.folders import DirectFolders
from tenants.runtimes import (
    docker_events,
    docker_exec,
    docker_hardening,
    docker_helper,
    docker_hidden,
    docker_logs,
    docker_networks,
    docker_usage,
    image,
)
from tenants.runtimes.base import (
    LABEL_INSTANCE,
    LABEL_SPEC,
    LABEL_TENANT,
    AgentSpec,
    AgentState,
    EngineInfo,
    ExecResult,
    FolderKeeper,
    Handle,
    Happening,
    Holder,
    LogPart,
    Observed,
    Placement,
    Reading,
    Stray,
)
from tenants.runtimes.docker_engine import CREATE_S, READ_S, REMOVE_S, START_S, Refused, engine_at, in_our_words
from tenants.runtimes.docker_folders import HelperFolders
from tenants.runtimes.docker_observed import KIND, handle_of, labels_of, observed
from tenants.runtimes.docker_spec import agent_body, check_body
from tenants.states import Egress, Reason
from zcplatform.lib.errors import RunFailed

MAX_TAIL = 5_000
CREATE_ATTEMPTS = 50
CREATE_PAUSE_S = 0.1
ADOPTABLE = ("created", "running", "exited", "restarting", "paused")


class DockerRuntime:
    """The ``Runtime`` of one engine. Holds no state of its own: any process may make one for the same engine."""

    kind = KIND

    def __init__(self, host: str = "") -> None:
        self.engine = engine_at(host or settings.DOCKER_HOST)
        self.folders: FolderKeeper = DirectFolders() if os.geteuid() == 0 else HelperFolders(self.engine)

    def check(self) -> EngineInfo:
        version, info = self.engine.call("version"), self.engine.call("info")
        security = info.get("SecurityOptions") or []
        detail = {
            "api_version": version["ApiVersion"],
            "cgroup_version": info.get("CgroupVersion", "1"),
            "storage_driver": info["Driver"],
            "security_options": security,
            "rootless": any("rootless" in option for option in security),
            "cpus": info["NCPU"],
            "memory_bytes": info["MemTotal"],
            "warnings": info.get("Warnings") or [],
        }
        return EngineInfo(kind=KIND, version=version["Version"], detail=detail)

    def place(self, *, config_dir: str, data_dir: str, listen_port: int, folder: Path, port: int) -> Placement:
        return Placement("0.0.0.0", listen_port, PurePosixPath(config_dir), PurePosixPath(data_dir))  # noqa: S104

    def ensure_image(self, image_name: str) -> str:
        return image.ensure_image(self.engine, image_name)

    def ensure_network(self, slot: int, egress: str = Egress.OPEN) -> str:
        firewall.enforce(egress, self.engine.host)
        return docker_networks.ensure_network(self.engine, slot, egress)

    def tidy(self) -> Sequence[str]:
        return docker_helper.remove_left(self.engine)

    def create(self, spec: AgentSpec) -> Handle:
        body = self._body(spec)
        for _ in range(CREATE_ATTEMPTS):
            if adopted := self._adopt(spec, body):
                return adopted
            try:
                made = self.engine.call("create_container_from_config", body, spec.name, limit_s=CREATE_S)
                return Handle(KIND, spec.name, made["Id"])
            except Refused as error:
                if not error.conflict:
                    raise
                self._check_name(spec)
                time.sleep(CREATE_PAUSE_S)  # another worker has the name and is about to show its container
        raise RunFailed(f"The name {spec.name} stays taken.", type=Reason.NAME_CONFLICT)

    def start(self, handle: Handle) -> None:
        raw = self._ours(handle)
        if raw is None:
            raise RunFailed(f"There is no container {handle.name} to start.", type=Reason.SPEC_DRIFT)
        if raw["State"]["Paused"]:
            self.engine.call("unpause", handle.id, limit_s=START_S)
        else:
            self.engine.call("start", handle.id, limit_s=START_S)

    def stop(self, handle: Handle, *, grace_s: float = 10) -> None:
        raw = self._ours(handle)
        if raw is None or raw["State"]["Status"] == "created":
            return
        if raw["State"]["Paused"]:
            self._unless_absent("unpause", handle.id, limit_s=START_S)  # else it could not hear that it is to end
        whole = max(0, round(grace_s))
        self._unless_absent("stop", handle.id, timeout=whole, limit_s=whole + REMOVE_S)

    def remove(self, handle: Handle) -> None:
        if self._ours(handle) is not None:
            self._remove(handle.id)

    def inspect(self, handle: Handle) -> Observed:
        raw = self._ours(handle)
        return observed(raw) if raw else Observed(handle=handle, tenant="", state=AgentState.ABSENT)

    def deviations(self, spec: AgentSpec, handle: Handle) -> Sequence[str]:
        raw = self._ours(handle)
        if raw is None or not raw["State"]["Running"]:
            return ()
        paused = ["it is paused"] if raw["State"]["Paused"] else []
        return paused + docker_hardening.deviations(raw, self._body(spec))

    def find(self, tenant: str) -> list[Observed]:
        return [observed(raw) for raw in self._labelled(f"{LABEL_TENANT}={tenant}")]

    def list(self) -> list[Observed]:
        return [observed(raw) for raw in self._labelled(LABEL_TENANT)]

    def strays(self, owners: Mapping[int, str]) -> Sequence[Stray]:
        """The engine keeps the labels: ``list`` tells all that bears them, whatever we have lost."""
        return ()

    def watch(self) -> Iterator[Happening | None]:
        return docker_events.follow(self.engine)

    def end_strays(self, tenant: str, uid: int | None) -> Sequence[Stray]:
        return ()

    def measure(self, handles: Sequence[Handle]) -> Mapping[str, Reading]:
        return docker_usage.measure(self.engine, [handle.id for handle in handles])

    def hidden(self, holders: Sequence[Holder]) -> Mapping[int, int]:
        """Files without a name on the disk of the folders. What lies in an agent's ``/tmp`` and ``/dev/shm`` counts as
        its memory, which has a limit, and the rest of a container can't be written to."""
        return docker_hidden.hidden(self.engine, holders)

    def logs(self, handle: Handle, *, tail: int = 100, times: bool = False) -> str:
        if self._ours(handle) is None:
            return ""
        lines = min(max(1, tail), MAX_TAIL)
        found, _ = self._log(handle, docker_logs.WHOLE_MAX, tail=lines, timestamps=times)
        return (docker_logs.with_times(found) if times else b"".join(found)).decode("utf-8", "replace")

    def logs_after(self, handle: Handle, mark: str = "", *, times: bool = False) -> LogPart:
        """The mark is the engine's own time of the last line, to the nanosecond."""
        if self._ours(handle) is None:
            return LogPart("", mark)
        since = {"since": int(mark.partition(".")[0]), "tail": docker_logs.TAIL} if mark else {"tail": 1}
        lines, cut = self._log(handle, docker_logs.PART_MAX, timestamps=True, **since)
        return docker_logs.part_after(lines, mark, cut=cut or len(lines) >= docker_logs.TAIL, times=times)

    def _log(self, handle: Handle, limit: int, **how: Any) -> tuple[list[bytes], bool]:  # type: ignore[valid-type]
        stream = self._unless_absent(
            "logs", handle.id, stdout=True, stderr=True, stream=True, follow=False, limit_s=CREATE_S, **how
        )
        if stream is None:
            return [], False
        try:
            with in_our_words("logs"):
                return docker_logs.newest(stream, limit)
        finally:
            stream._response.close()

    def exec(self, handle: Handle, argv: Sequence[str], *, timeout_s: float = 60, cap: int = 1_048_576) -> ExecResult:
        raw = self._ours(handle)
        if raw is None or not raw["State"]["Running"] or raw["State"]["Paused"]:
            raise docker_exec.not_running()
        return docker_exec.run_beside(self.engine, raw, argv, timeout_s=timeout_s, cap=cap)

    def remove_unused_networks(self) -> Sequence[str]:
        """Remove this installation's networks that no container uses, and with the last its firewall rules; returns
        their names. For tearing down."""
        gone = docker_networks.remove_unused_networks(self.engine)
        if self.engine.is_local and not docker_networks.ours(self.engine):
            firewall.remove()
        return gone

    def _body(self, spec: AgentSpec) -> dict[str, Any]:
        body = agent_body(
            spec,
            place=docker_networks.place(self.engine, spec.slot, spec.egress),
            log_max_size=settings.LOG_MAX_SIZE,
            log_max_files=settings.LOG_MAX_FILES,
            host_cpus=self._host_cpus,
        )
        check_body(body)
        return body

    # --- what is ours --------------------------------------------------------------------------------------

    @cached_property
    def _host_cpus(self) -> int:
        return int(self.engine.call("info")["NCPU"])

    def _labelled(self, label: str) -> Sequence[dict[str, Any]]:
        filters = {"label": [f"{LABEL_INSTANCE}={settings.INSTANCE}", label]}
        rows = self.engine.call("containers", all=True, filters=filters, limit_s=CREATE_S)
        looked = (self._unless_absent("inspect_container", row["Id"]) for row in rows)
        return [raw for raw in looked if raw]

    def _ours(self, handle: Handle) -> dict[str, Any] | None:
        """Its ``inspect`` when it is there and bears this installation's label; None otherwise."""
        raw = self._unless_absent("inspect_container", handle.id)
        return raw if raw and labels_of(raw).get(LABEL_INSTANCE) == settings.INSTANCE else None

    def _adopt(self, spec: AgentSpec, body: dict[str, Any]) -> Handle | None:
        """The one equal container of the tenant; when there is none, every container of the tenant is removed. One
        that was loosened since it was made is not equal, whatever its label says."""
        mine = self._labelled(f"{LABEL_TENANT}={spec.tenant}")
        if len(mine) == 1 and _equal(mine[0], spec, body) and self._can_start(mine[0]):
            return handle_of(mine[0])
        for raw in mine:
            self._remove(raw["Id"])
        return None

    def _can_start(self, raw: dict[str, Any]) -> bool:
        """False when its network was removed and made anew: a container is tied to the network's id, not its name."""
        ids = {network["Id"] for network in self.engine.call("networks")}
        joined = [network["NetworkID"] for network in raw["NetworkSettings"]["Networks"].values()]
        return all(network in ids or not network for network in joined)

    def _check_name(self, spec: AgentSpec) -> None:
        """RunFailed ``name_conflict`` when what has the name is not this tenant's."""
        raw = self._unless_absent("inspect_container", spec.name)
        wanted = (settings.INSTANCE, spec.tenant)
        if raw and tuple(labels_of(raw).get(label) for label in (LABEL_INSTANCE, LABEL_TENANT)) != wanted:
            raise RunFailed(f"A container {spec.name} exists that is not ours.", type=Reason.NAME_CONFLICT)

    def _remove(self, container: str) -> None:
        try:
            self._unless_absent("remove_container", container, force=True, v=True, limit_s=REMOVE_S)
        except Refused as error:
            if not error.conflict:
                raise
            self._until_gone(container)  # somebody else's removal is under way

    def _until_gone(self, container: str) -> None:
        deadline = time.monotonic() + REMOVE_S
        while self._unless_absent("inspect_container", container):
            if time.monotonic() > deadline:
                raise RunFailed("A container's removal does not end.", type=Reason.INTERNAL_ERROR)
            time.sleep(CREATE_PAUSE_S)

    def _unless_absent(self, verb: str, container: str, *, limit_s: float = READ_S, **arguments: Any) -> Any:
        try:
            return self.engine.call(verb, container, limit_s=limit_s, **arguments)
        except Refused as error:
            if error.absent:
                return None
            raise


def _equal(raw: dict[str, Any], spec: AgentSpec, body: dict[str, Any]) -> bool:
    """By its label, and by what it still is: somebody may have changed it behind our back."""
    same = labels_of(raw).get(LABEL_SPEC) == spec.fingerprint() and raw["State"]["Status"] in ADOPTABLE
    return same and not docker_hardening.deviations(raw, body)
