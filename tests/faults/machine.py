"""A seeded random machine: people ask, workers work and die, things are cut, filled and taken away; then all heals.

``make chaos SEED=7`` plays it for long (``tests.faults.chaos``). The same seed plays the same steps. Whatever happens,
once all is healed the world must settle to what the rows ask for.
"""

from __future__ import annotations

import functools
import os
import shutil
import signal
import socket
import subprocess
import time
import traceback
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

from django.conf import settings as django_settings
from django.db import OperationalError, connection
from hypothesis import HealthCheck, Phase, seed, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, rule, run_state_machine_as_test

from tenants import configuration, reconcile, runtimes, services
from tenants.models import Node, QuarantinedPort, Run, Tenant
from tenants.provisioning.plans import PROCEDURE
from tenants.provisioning.runner import execute
from tenants.runtimes.docker_engine import Engine, Refused
from tenants.states import ACTIVE_RUN, Desired, RunStatus, Status
from tests import processes
from tests.faults import kernel
from tests.faults.world import World, assert_world
from zcplatform.lib.actors import OPERATOR
from zcplatform.lib.errors import DependencyDown, RequestError

MAX_TENANTS = 5
MAX_CONTAINERS = 2
PER_EXAMPLE = 40
FILL_LEAVES = 24 * 1024  # bytes: enough for nothing much
ASKS = ("deploy", "start", "stop", "restart", "suspend", "reactivate", "resize", "reconfigure", "rotate", "delete")
KILL_WITHIN = 150  # statements of the database in which a process is killed
STUCK_S = 120.0


class Tally:
    """What was done in all examples together, and how long the slowest settling took."""

    def __init__(self) -> None:
        self.steps, self.trace = Counter[str](), list[str]()
        self.slowest_s, self.settled, self.retried = 0.0, 0, 0
        self.failure, self.failed_after = "", list[str]()

    @property
    def total(self) -> int:
        return sum(self.steps.values())

    def note(self, what: str, *about: object) -> None:
        self.steps[what] += 1
        self.trace.append(" ".join([what, *map(str, about)]))


class KillAt:
    """Kills this very process at its Nth statement: before it, after it, or in the middle of a transaction."""

    def __init__(self, nth: int) -> None:
        self.left = nth

    def __call__(self, run: Callable[..., Any], sql: str, params: Any, many: bool, context: Any) -> Any:
        self.left -= 1
        if self.left <= 0:
            os.kill(os.getpid(), signal.SIGKILL)
        return run(sql, params, many, context)


def ask(what: str, tenant: Tenant) -> Run | None:
    if what == "resize":
        return services.resize(actor=OPERATOR, tenant=tenant, plan="pro" if tenant.plan.slug == "big" else "big")
    if what == "reconfigure":
        given = configuration.ConfigInput(extra={"stream_delay_ms": int(time.time()) % 50})
        return configuration.update(actor=OPERATOR, tenant=tenant, given=given)
    if what == "rotate":
        return services.rotate_secrets(actor=OPERATOR, tenant=tenant).run
    if what == "delete":
        return services.delete(actor=OPERATOR, tenant=tenant, purge=True)
    return getattr(services, what)(actor=OPERATOR, tenant=tenant)


class Broken(AssertionError):
    """The machine has found a fault and ends: the world is no longer one that could be gone on with."""


def act(**draws: Any) -> Callable[[Callable[..., None]], Any]:
    """A rule. Its draws never depend on the world, so that hypothesis may play them again; one that has nothing to act
    on does nothing. The first failure is kept: the world that it happened in does not come back."""

    def decorate(method: Callable[..., None]) -> Any:
        @functools.wraps(method)
        def play(machine: Machine, **given: Any) -> None:
            if machine.tally.failure:
                raise Broken(machine.tally.failure)
            try:
                method(machine, **given)
            except Exception:
                machine.tally.failure = traceback.format_exc()
                machine.tally.failed_after = machine.tally.trace[-60:]
                raise

        return rule(**draws)(play)

    return decorate


class Machine(RuleBasedStateMachine):
    """``world`` and ``tally`` are given to the class before it is run; the world goes from one example to the next."""

    world: World
    tally: Tally

    @initialize()
    def begin(self) -> None:
        self.world.mark()
        self.frozen: list[int] = []
        self.stolen: list[socket.socket] = []

    # --- people --------------------------------------------------------------------------------------------

    def _tenants(self) -> list[Tenant]:
        ours = {neighbour.pk for neighbour in self.world.neighbours}
        return list(Tenant.objects.alive().exclude(pk__in=ours).select_related("node", "plan", "config").order_by("pk"))

    def _pick(self, number: int) -> Tenant | None:
        tenants = self._tenants()
        return tenants[number % len(tenants)] if tenants else None

    @act(container=st.booleans())
    def create(self, container: bool) -> None:
        tenants = self._tenants()
        containers = sum(t.node.runtime == "docker" for t in tenants)
        nodes = {node.runtime: node for node in self.world.nodes}
        node = nodes.get("docker") if container and containers < MAX_CONTAINERS else nodes["process"]
        if len(tenants) >= MAX_TENANTS or node is None:
            return
        self.tally.note("create", node.runtime)
        self.world.made += 1
        with suppress(OperationalError, DependencyDown):  # a full disk
            tenant = self.world.tenant(f"Chaos {self.world.made}", node)
            services.deploy(actor=OPERATOR, tenant=tenant)

    @act(what=st.sampled_from(ASKS), number=st.integers(0, 20), then=st.sampled_from(("work", "kill", "leave")))
    def ask(self, what: str, number: int, then: str) -> None:
        """A request, and a worker that takes the run up at once, or dies in it, or has not come to it yet."""
        tenant = self._pick(number)
        if tenant is None:
            return
        self.tally.note(what, tenant.slug)
        run = None
        with suppress(RequestError, OperationalError, DependencyDown):
            run = ask(what, tenant)
        if run is not None and then != "leave":
            (self._work if then == "work" else self._kill_worker)(run, 1 + number * 7)

    @act(what=st.sampled_from(ASKS), number=st.integers(0, 20), nth=st.integers(1, 40))
    def kill_web(self, what: str, number: int, nth: int) -> None:
        """The process that takes a request is killed at its Nth statement: all of the request is there, or nothing."""
        tenant = self._pick(number)
        if tenant is None:
            return
        self.tally.note("kill-web", what, tenant.slug, nth)

        def doomed() -> None:
            with connection.execute_wrapper(KillAt(nth)), suppress(RequestError, OperationalError, DependencyDown):
                ask(what, tenant)

        processes.run(doomed)

    # --- workers -------------------------------------------------------------------------------------------

    def _run(self, number: int) -> Run | None:
        runs = list(Run.objects.filter(status__in=ACTIVE_RUN).order_by("pk"))
        return runs[number % len(runs)] if runs else None

    @act(number=st.integers(0, 20))
    def work(self, number: int) -> None:
        run = self._run(number)
        if run is None:
            return
        self._work(run)

    def _work(self, run: Run, _nth: int = 0) -> None:
        self.tally.note("work", run.kind)
        with suppress(OperationalError):
            Run.objects.filter(pk=run.pk, status=RunStatus.PARKED).update(next_attempt_at="2020-01-01T00:00:00Z")
            execute(run.pk, PROCEDURE)

    @act(number=st.integers(0, 20), nth=st.integers(1, KILL_WITHIN))
    def kill_worker(self, number: int, nth: int) -> None:
        run = self._run(number)
        if run is None:
            return
        self._kill_worker(run, nth)

    def _kill_worker(self, run: Run, nth: int) -> None:
        self.tally.note("kill-worker", run.kind, nth)

        def doomed() -> None:
            with connection.execute_wrapper(KillAt(nth)), suppress(OperationalError):
                execute(run.pk, PROCEDURE)

        processes.run(doomed)

    @act(number=st.integers(0, 20), step=st.sampled_from(("create", "start", "stop", "remove", "publish_route")))
    def freeze_worker(self, number: int, step: str) -> None:
        """It is stopped where it has looked at its lease and not acted yet."""
        run = self._run(number)
        if run is None or self.frozen:
            return
        self.tally.note("freeze-worker", run.kind, step)
        pid = self.world.worker(run, f"{run.kind}.{step}.checked=freeze@1")
        _, status = os.waitpid(pid, os.WUNTRACED)
        if os.WIFSTOPPED(status):
            self.frozen.append(pid)

    @act()
    def thaw_worker(self) -> None:
        if self.frozen:
            self.tally.note("thaw-worker")
            self._thaw()

    def _thaw(self) -> None:
        while self.frozen:
            os.kill(self.frozen[-1], signal.SIGCONT)
            processes.wait(self.frozen.pop())

    @act()
    def leases_run_out(self) -> None:
        self.tally.note("leases-run-out")
        with suppress(OperationalError):
            for run in Run.objects.filter(lease_until__isnull=False):
                self.world.expire(run)

    @act()
    def sweep(self) -> None:
        self.tally.note("sweep")
        with suppress(OperationalError):
            reconcile.sweep()

    # --- the world -----------------------------------------------------------------------------------------

    @act()
    def wipe_caddy(self) -> None:
        if self._filler().exists():
            return  # it could not write its first configuration: serve would try again until it can
        self.tally.note("wipe-caddy")
        self.world.restart_caddy()

    @act(up=st.booleans())
    def caddy(self, up: bool) -> None:
        self.tally.note("caddy-up" if up else "caddy-down")
        (self.world.wire.up if up else self.world.wire.down)()

    @act(what=st.sampled_from(("up", "down", "lose", "cut")))
    def engine(self, what: str) -> None:
        wire = self.world.engine
        if wire is None:
            return
        self.tally.note(f"engine-{what}")
        if what == "up":
            wire.heal()
        elif what == "down":
            wire.down()
        else:
            wire.up()
            wire.fail(what, "(POST|DELETE) ", times=1)

    @act(number=st.integers(0, 20), how=st.sampled_from(("remove", "stop")))
    def take_agent(self, number: int, how: str) -> None:
        """Somebody with a shell."""
        tenant = self._pick(number)
        if tenant is None or tenant.agent_handle is None:
            return
        self.tally.note(f"{how}-by-hand", tenant.slug)
        with suppress(DependencyDown):
            getattr(runtimes.runtime_for(tenant.node), how)(tenant.agent_handle)

    @act(number=st.integers(0, 20), what=st.sampled_from(("state.json", "spec.json", "all", "all and the lock")))
    def lose_record(self, number: int, what: str) -> None:
        """What the platform has noted of an agent that runs on."""
        tenant = self._pick(number)
        folder = self.world.home / "run" / str(tenant.public_id) if tenant else None
        if folder is None or not folder.is_dir():
            return
        self.tally.note("lose-record", what)
        if what.endswith("json"):
            (folder / what).unlink(missing_ok=True)
            return
        shutil.rmtree(folder, ignore_errors=True)
        if "lock" in what:
            folder.with_suffix(".lock").unlink(missing_ok=True)

    @act(number=st.integers(0, 20))
    def kill_keeper(self, number: int) -> None:
        tenant = self._pick(number)
        wanted = f"shim.py keep {self.world.home}/run/{tenant.public_id} " if tenant else "\0"
        for pid in [pid for pid, line in kernel.commands().items() if line.endswith(wanted)]:
            self.tally.note("kill-keeper", tenant and tenant.slug)
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)

    @act(number=st.integers(0, 20))
    def leave_process(self, number: int) -> None:
        """Something of the agent's that outlived its keeper and has no parent of ours: a daemon of its uid."""
        tenant = self._pick(number)
        if tenant is None or tenant.uid is None or tenant.node.runtime != "process" or os.geteuid() != 0:
            return
        if not (tenant.folder / "data").is_dir():
            return
        self.tally.note("leave-process", tenant.slug)
        # Its parent ends at once, as a killed keeper would; /tmp may be passed by everybody, the folder is its own.
        subprocess.run(
            ["/bin/sh", "-c", f"cd {tenant.folder}/data; sleep 3600 & exit 0"],
            user=tenant.uid,
            group=tenant.uid,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )

    @act(number=st.integers(0, 20))
    def second_container(self, number: int) -> None:
        """Another with the tenant's labels, as a worker leaves it that was overtaken while it created one."""
        tenant = self._pick(number)
        if tenant is None or tenant.handle is None or tenant.node.runtime != "docker" or self.world.engine is None:
            return
        engine = Engine(f"unix://{self.world.engine.back}")
        try:
            raw = engine.call("inspect_container", tenant.handle["id"])
        except Refused:
            return
        self.tally.note("second-container", tenant.slug)
        body = {"Image": raw["Image"], "Labels": raw["Config"]["Labels"], "HostConfig": {"NetworkMode": "none"}}
        sleeps = {"Entrypoint": ["/usr/bin/python3", "-c", "import time; time.sleep(3600)"]}
        made = engine.call("create_container_from_config", {**body, **sleeps}, None, limit_s=60)
        engine.call("start", made["Id"], limit_s=60)

    @act(number=st.integers(0, 20))
    def take_folder(self, number: int) -> None:
        tenant = self._pick(number)
        if tenant is None or not tenant.folder.is_dir():
            return
        self.tally.note("take-folder", tenant.slug)
        shutil.rmtree(tenant.folder, ignore_errors=True)

    @act(number=st.integers(0, 20))
    def steal_port(self, number: int) -> None:
        tenant = self._pick(number)
        if tenant is None or tenant.port is None or self.stolen:
            return
        thief = socket.socket()
        thief.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            thief.bind(("127.0.0.1", tenant.port))
            thief.listen()
        except OSError:
            thief.close()
            return
        self.tally.note("steal-port", tenant.slug)
        self.stolen.append(thief)

    def _give_back(self) -> None:
        while self.stolen:
            self.stolen.pop().close()

    @act()
    def fill_disk(self) -> None:
        folder = self._filler().parent
        if self._filler().exists() or folder.stat().st_dev == folder.parents[1].stat().st_dev:
            return  # full already, or not a disk of our own
        self.tally.note("fill-disk")
        free = os.statvfs(self._filler().parent)
        size = max(0, free.f_bavail * free.f_frsize - FILL_LEAVES)
        with self._filler().open("ab") as file, suppress(OSError):
            file.write(b"\0" * size)

    @act()
    def free_disk(self) -> None:
        if self._filler().exists():
            self.tally.note("free-disk")
            self._filler().unlink()

    @staticmethod
    def _filler() -> Path:
        return Path(django_settings.HOME) / "filler"

    # --- and then all heals --------------------------------------------------------------------------------

    @act(times=st.integers(1, 10))
    def heal(self, times: int) -> None:
        """Now and then in the middle, too; always at the end."""
        if times > 2:
            return
        self.tally.note("heal")
        self._heal()

    def _heal(self) -> None:
        self._filler().unlink(missing_ok=True)
        self.world.wire.heal()
        if self.world.engine:
            self.world.engine.heal()
        self._give_back()
        QuarantinedPort.objects.all().delete()  # an hour has passed
        Node.objects.update(lease_until=None)  # and the lease of a sweep that a full disk kept from giving it back
        began = time.monotonic()
        self.world.settle()
        self._thaw()
        self.world.settle()
        self._try_failed_again()
        took = time.monotonic() - began
        self.tally.slowest_s, self.tally.settled = max(took, self.tally.slowest_s), self.tally.settled + 1
        assert took < STUCK_S, f"stuck for {took:.0f} s"
        self._assert_as_wished()
        assert_world(self.world)
        self.world.mark()

    def _try_failed_again(self) -> None:
        """Trying again after a failure is a person's decision; it must succeed."""
        for tenant in self._tenants():
            if tenant.status == Status.ERROR and tenant.desired == Desired.RUNNING:
                self.tally.retried += 1
                self.world.drive(services.deploy(actor=OPERATOR, tenant=tenant))
        self.world.settle()

    def _assert_as_wished(self) -> None:
        wished = {Desired.RUNNING: Status.RUNNING, Desired.STOPPED: Status.STOPPED, Desired.SUSPENDED: Status.SUSPENDED}
        for tenant in self._tenants():
            if tenant.status == Status.DRAFT:
                continue
            assert tenant.status == wished[Desired(tenant.desired)], (
                f"{tenant.slug} should be {tenant.desired} and is {tenant.status}: {tenant.reason} {tenant.detail}"
            )

    def teardown(self) -> None:
        if hasattr(self, "frozen") and not self.tally.failure:
            self.heal(times=1)


def play(world: World, number: int, steps: int) -> Tally:
    """``steps`` steps with the seed ``number``; the last of them are printed when it fails."""
    Machine.world, Machine.tally = world, Tally()
    part = 0
    try:
        while Machine.tally.total < steps:
            part += 1
            left = steps - Machine.tally.total
            options = settings(
                max_examples=12,  # the first is always the simplest
                stateful_step_count=min(PER_EXAMPLE, max(10, left // 3)),
                deadline=None,
                database=None,
                phases=[Phase.generate],
                suppress_health_check=list(HealthCheck),
                print_blob=False,
            )
            run_state_machine_as_test(seed(number * 1_000 + part)(Machine), settings=options)
    except BaseException:
        print(f"\nseed {number}, after {Machine.tally.total} steps; the last of them:")
        print("\n".join([*Machine.tally.failed_after, "", Machine.tally.failure]))
        raise
    return Machine.tally


def told(tally: Tally, number: int) -> str:
    steps = ", ".join(f"{name} {count}" for name, count in sorted(tally.steps.items()))
    return (
        f"seed {number}: {tally.total} steps, settled {tally.settled} times, at most {tally.slowest_s:.1f} s, "
        f"{tally.retried} failures tried again\n  {steps}"
    )
