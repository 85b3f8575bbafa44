"""The steps of every kind of run. Each looks first at what is there, so it may be done again after a crash."""

from __future__ import annotations

import logging
import secrets as random
import time
from collections.abc import Callable, Sequence
from typing import Any

from django.conf import settings

from tenants import last_words, routes, secrets, usage
from tenants.agents import agent_kind
from tenants.egress.policy import mode_of
from tenants.models import Tenant, TenantSecret
from tenants.probe import probe
from tenants.provisioning import allocation, spec
from tenants.provisioning.procedure import Context, Park, Rewind, Step
from tenants.runtimes import runtime_for
from tenants.runtimes.base import AgentSpec, AgentState, Observed, Runtime, Stray
from tenants.states import Desired, Health, Reason, Status
from tenants.status import save, set_status
from zcplatform.lib import clock
from zcplatform.lib.actors import SYSTEM
from zcplatform.lib.errors import RunFailed, VaultError
from zcplatform.lib.redact import SecretStr

log = logging.getLogger(__name__)

POLL_S = 5.0
"""How long a worker polls for health before it gives itself back."""
PARK_S = 1.0
STOP_GRACE_S = 10.0
CRASHES = 3
TOLD = 20
"""So many processes are named in the log."""
log = logging.getLogger(__name__)


def _runtime(tenant: Tenant) -> Runtime:
    return runtime_for(tenant.node)


def reserve_slot(ctx: Context) -> dict[str, Any]:
    _check_plan(ctx.subject)
    ctx.check()
    ctx.subject = tenant = allocation.allocate(ctx.subject)
    return {"slot": tenant.slot, "port": tenant.port, "uid": tenant.uid}


def _check_plan(tenant: Tenant) -> None:
    """A plan may have been edited since the tenant was put on it."""
    kind, memory = agent_kind(tenant.agent_kind), tenant.plan.memory_limit_mb
    if memory < kind.min_memory_mb:
        raise RunFailed(
            f"{kind.label} needs {kind.min_memory_mb} MB; the plan {tenant.plan.name} has {memory} MB.",
            type=Reason.PLAN_TOO_SMALL,
        )


def prepare_folders(ctx: Context) -> None:
    ctx.check()
    folders, tenant = _runtime(ctx.subject).folders, ctx.subject
    folders.bring_back(tenant.trash, tenant.folder, tenant.uid)  # of one that was deleted, and is so no more
    _in_spite_of_the_agent(ctx, lambda: folders.prepare(tenant.folder, tenant.uid))


def issue_tokens(ctx: Context) -> None:
    """The bearer by which the platform speaks to the agent; the customer's own tokens are made by services."""
    if not TenantSecret.objects.filter(tenant=ctx.subject, channel=None, field="agent_token").exists():
        _new_agent_token(ctx)


def rotate_agent_token(ctx: Context) -> None:
    _new_agent_token(ctx)


def _new_agent_token(ctx: Context) -> None:
    with ctx.writing():
        secrets.put(ctx.subject, "agent_token", SecretStr(random.token_urlsafe(32)), actor=SYSTEM)


def render_config(ctx: Context) -> dict[str, Any]:
    tenant = ctx.subject
    try:
        files = spec.config_files(tenant)
    except VaultError as error:
        raise RunFailed(error.message, type=Reason.VAULT_UNAVAILABLE) from error
    ctx.check()
    folders = _runtime(tenant).folders
    _in_spite_of_the_agent(ctx, lambda: folders.write_config(tenant.folder, tenant.uid, files))
    return {"config_hash": spec.hash_files(files)}


def _in_spite_of_the_agent(ctx: Context, act: Callable[[], None]) -> None:
    """Do ``act`` in the tenant's folder. An agent that may write there too could so keep its old configuration: where
    the act fails while one runs, that is stopped, the folder put in order, and the act done again."""
    try:
        act()
    except RunFailed as error:
        if error.type != Reason.FOLDER_FAILED or not _may_write(ctx.subject) or not _stop_what_runs(ctx):
            raise
        log.warning("agent stopped, its folder resists", extra={"tenant": ctx.subject.slug, "error": error.message})
        _runtime(ctx.subject).folders.prepare(ctx.subject.folder, ctx.subject.uid)
        act()


def _may_write(tenant: Tenant) -> bool:
    """Whether its agent can change its configuration folder; a container has it mounted for reading alone."""
    return not spec.placement(tenant).in_container


def _stop_what_runs(ctx: Context) -> bool:
    """Whether there was an agent to stop."""
    there = _runtime(ctx.subject).find(str(ctx.subject.public_id))
    if not any(seen.state == AgentState.RUNNING for seen in there):
        return False
    if ctx.subject.routed:
        withdraw_route(ctx)
    stop(ctx)
    return True


def ensure_image(ctx: Context) -> dict[str, Any]:
    return {"image": _runtime(ctx.subject).ensure_image(settings.AGENT_IMAGES[ctx.subject.agent_kind])}


def ensure_network(ctx: Context) -> dict[str, Any]:
    ctx.check()
    return {"network": _runtime(ctx.subject).ensure_network(ctx.subject.slot, mode_of(ctx.subject))}


def retire_stale(ctx: Context) -> None:
    """Unless the wanted agent runs already, nothing may lead to what is there; and a stale one is stopped gently.
    One that was changed behind our back is stale too: ``create`` will not adopt it. So is one that has changed its
    configuration since it was rendered; what was changed to its last breath is rendered again."""
    tenant, wanted, runtime = ctx.subject, _spec(ctx), _runtime(ctx.subject)
    there, untouched = runtime.find(str(tenant.public_id)), _is_as_rendered(ctx)
    stale = [seen for seen in there if not (untouched and _is_wanted(runtime, wanted, seen))]
    if tenant.routed and not any(s not in stale and s.state == AgentState.RUNNING for s in there):
        withdraw_route(ctx)
    for seen in stale:
        _stop(ctx, seen)
    _end_strays(ctx)
    if stale and _may_write(tenant):
        runtime.folders.prepare(tenant.folder, tenant.uid)
    if not _is_as_rendered(ctx):
        render_config(ctx)


def _is_as_rendered(ctx: Context) -> bool:
    """Whether the files are still those that were written."""
    if not _may_write(ctx.subject):
        return True
    found = _runtime(ctx.subject).folders.read_config(ctx.subject.folder)
    return spec.hash_files(found) == ctx.results["render_config"]["config_hash"]


def _stop(ctx: Context, seen: Observed) -> None:
    """What the agent counted is taken in first: it ends with the agent."""
    _take_counts(ctx, seen)
    ctx.check()
    _runtime(ctx.subject).stop(seen.handle, grace_s=STOP_GRACE_S)


def _take_counts(ctx: Context, seen: Observed) -> None:
    if seen.state == AgentState.RUNNING and seen.handle == ctx.subject.agent_handle:
        usage.settle(ctx.subject)


def _end_strays(ctx: Context) -> None:
    """What runs of the tenant and no record of ours tells."""
    ctx.check()
    if ended := _runtime(ctx.subject).end_strays(str(ctx.subject.public_id), ctx.subject.uid):
        log.warning("what nothing tells of was ended", extra=_about(ctx.subject, ended))


def _about(tenant: Tenant, ended: Sequence[Stray]) -> dict[str, Any]:
    return {"tenant": tenant.slug, "ended": [stray.what for stray in ended][:TOLD]}


def _is_wanted(runtime: Runtime, wanted: AgentSpec, seen: Observed) -> bool:
    return seen.fingerprint == wanted.fingerprint() and not runtime.deviations(wanted, seen.handle)


def is_up(tenant: Tenant) -> bool:
    """Whether the agent that the row tells of runs, by the engine's word."""
    if tenant.agent_handle is None:
        return False
    seen = _runtime(tenant).inspect(tenant.agent_handle)
    return seen.state == AgentState.RUNNING and seen.fingerprint == tenant.fingerprint


def create(ctx: Context) -> dict[str, Any]:
    tenant, wanted = ctx.subject, _spec(ctx)
    ctx.check()
    handle = _runtime(tenant).create(wanted)
    with ctx.writing():
        save(
            tenant,
            handle=handle.as_json(),
            fingerprint=wanted.fingerprint(),
            image=wanted.image,
            config_hash=wanted.config_hash,
        )
    return {"id": handle.id, "name": handle.name}


def undo_create(ctx: Context) -> None:
    """Keep the agent's last words, then remove what may have been created, recorded or not."""
    tenant, runtime = ctx.subject, _runtime(ctx.subject)
    for seen in runtime.find(str(tenant.public_id)):
        last_words.save(tenant, runtime.logs(seen.handle, tail=50, times=True))
        _take_counts(ctx, seen)
        ctx.check()
        runtime.remove(seen.handle)
    _end_strays(ctx)
    with ctx.writing():
        save(tenant, handle=None, fingerprint="", image="", config_hash="")


def start(ctx: Context) -> None:
    tenant = ctx.subject
    ctx.check()
    try:
        _runtime(tenant).start(tenant.agent_handle)
    except RunFailed as error:
        if error.type != Reason.PORT_CONFLICT:
            raise
        # The container is `created` and holds the port in its spec only: it goes, and the next port is tried.
        _runtime(tenant).remove(tenant.agent_handle)
        with ctx.writing():
            allocation.quarantine(tenant)
        raise Rewind("reserve_slot", error) from error


def await_health(ctx: Context) -> dict[str, Any]:
    """Poll for up to five seconds, then park. What counts against the deadline is the time that somebody polled:
    an agent is not to blame for a platform that was down meanwhile."""
    tenant, kind = ctx.subject, agent_kind(ctx.subject.agent_kind)
    began = time.monotonic()
    while True:
        if probe(tenant):
            return {"attempts": ctx.attempt}
        if time.monotonic() - began >= POLL_S:
            break
        time.sleep(0.1 if time.monotonic() - began < 2 else 0.5)
    _give_up_if_hopeless(tenant, _runtime(tenant).inspect(tenant.agent_handle))
    waited = ctx.attempt * (POLL_S + PARK_S)
    if waited > max(30, 2 * kind.start_grace_s):
        raise RunFailed(
            f"The agent did not answer {kind.health_path} within {waited:.0f} s.{_hint(tenant)}", type=Reason.UNHEALTHY
        )
    raise Park(Reason.WAITING_FOR_HEALTH, after_s=PARK_S, detail="The agent has not answered its health check yet.")


def _give_up_if_hopeless(tenant: Tenant, seen: Observed) -> None:
    if seen.oom_killed and seen.restarts + (seen.state != AgentState.RUNNING) >= 2:
        raise RunFailed(
            f"The agent ran out of memory ({tenant.plan.memory_limit_mb} MB).{_hint(tenant)}", type=Reason.OOM_KILLED
        )
    if seen.restarts >= CRASHES:
        code = "" if seen.exit_code is None else f" with exit code {seen.exit_code}"
        raise RunFailed(f"The agent exited {seen.restarts} times{code}.{_hint(tenant)}", type=Reason.CRASH_LOOP)
    if seen.state == AgentState.ABSENT:
        # Somebody removed it behind our back: make it again rather than wait for what can't come.
        raise Rewind("create", RunFailed("The agent vanished while it was starting.", type=Reason.CRASH_LOOP))


def _hint(tenant: Tenant) -> str:
    lines = _runtime(tenant).logs(tenant.agent_handle, tail=5) if tenant.agent_handle else ""
    return f" Its last lines: {last_words.clean(tenant, lines)}" if lines.strip() else ""


def publish_route(ctx: Context) -> None:
    with ctx.writing():
        save(ctx.subject, routed=True)
    ctx.check()
    routes.sync()


def withdraw_route(ctx: Context) -> None:
    with ctx.writing():
        save(ctx.subject, routed=False)
    ctx.check()
    routes.withdraw()


def mark_running(ctx: Context) -> None:
    now = clock.now()
    with ctx.writing():
        set_status(ctx.subject, Status.RUNNING)
        save(ctx.subject, health=Health.OK, health_at=now, running_since=now)


def stop(ctx: Context) -> None:
    for seen in _runtime(ctx.subject).find(str(ctx.subject.public_id)):
        _stop(ctx, seen)
    _end_strays(ctx)


def mark_stopped(ctx: Context) -> None:
    with ctx.writing():
        tenant = Tenant.objects.get(pk=ctx.subject.pk)
        held = tenant.desired == Desired.SUSPENDED
        set_status(tenant, Status.SUSPENDED if held else Status.STOPPED, Reason.HELD if held else Reason.NONE)
        save(tenant, health=Health.UNKNOWN, health_at=clock.now(), running_since=None)


def revoke_tokens(ctx: Context) -> None:
    with ctx.writing():
        ctx.subject.access_tokens.filter(revoked_at__isnull=True).update(revoked_at=clock.now())


def remove(ctx: Context) -> None:
    """Done when nothing of the tenant lives, by the world's word: only then are its folder and its uid free."""
    for seen in _runtime(ctx.subject).find(str(ctx.subject.public_id)):
        _take_counts(ctx, seen)
        ctx.check()
        _runtime(ctx.subject).remove(seen.handle)
    _end_strays(ctx)
    with ctx.writing():
        save(ctx.subject, handle=None, fingerprint="", image="")


def archive_folder(ctx: Context) -> None:
    tenant, folders = ctx.subject, _runtime(ctx.subject).folders
    ctx.check()
    folders.archive(tenant.folder, tenant.trash)
    if ctx.run.params.get("purge"):
        folders.purge(tenant.trash)
        with ctx.writing():
            save(tenant, purged_at=clock.now())


def free_slot(ctx: Context) -> None:
    """The last write: only now may somebody else get the port, the uid and the slug."""
    tenant = ctx.subject
    with ctx.writing():
        # With the folder the trash keeps the sealed secrets, but none that only a living agent needs.
        secrets.remove(tenant, actor=SYSTEM, name=None if tenant.purged_at else "agent_token")
        allocation.release(tenant)
        set_status(tenant, Status.DELETED)
        save(tenant, deleted_at=clock.now(), health=Health.UNKNOWN, running_since=None, config_hash="")


def _spec(ctx: Context) -> Any:
    return spec.build_spec(
        ctx.subject,
        run=str(ctx.run.public_id),
        epoch=ctx.epoch,
        image=ctx.results["ensure_image"]["image"],
        config_hash=ctx.results["render_config"]["config_hash"],
    )


CONVERGE = (
    Step("reserve_slot", reserve_slot),
    Step("prepare_folders", prepare_folders),
    Step("issue_tokens", issue_tokens),
    Step("render_config", render_config),
    Step("ensure_image", ensure_image),
    Step("ensure_network", ensure_network),
    Step("retire_stale", retire_stale),
    Step("create", create, undo_create),
    Step("start", start),
    Step("await_health", await_health),
    Step("publish_route", publish_route, withdraw_route),
    Step("mark_running", mark_running),
)
"""Brings a tenant up from whatever state it is in; the same for a first deploy and for a repair."""

HALT = (Step("withdraw_route", withdraw_route), Step("stop", stop), Step("mark_stopped", mark_stopped))

RESTART = (Step("withdraw_route", withdraw_route), Step("stop", stop), *CONVERGE)

ROTATE_SECRETS = (Step("rotate_agent_token", rotate_agent_token), *CONVERGE)

UNDELETE = (
    Step("reserve_slot", reserve_slot),
    Step("prepare_folders", prepare_folders),
    Step("mark_stopped", mark_stopped),
)

DEPROVISION = (
    Step("revoke_tokens", revoke_tokens),
    Step("withdraw_route", withdraw_route),
    Step("stop", stop),
    Step("remove", remove),
    Step("archive_folder", archive_folder),
    Step("free_slot", free_slot),
)
