"""What ``serve`` runs: the web, the two clusters of the queue, and Caddy where nobody else runs it."""

from __future__ import annotations

import http.client
import os
import socket
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from django.conf import settings
from django_q.tasks import async_task

from tenants.egress.counts import stats_file
from zcplatform import caddy_process, http_metrics
from zcplatform.board import Board
from zcplatform.lib import child, env
from zcplatform.lib.addresses import authority, reachable
from zcplatform.pulse import Pulse


@dataclass(frozen=True)
class Program:
    """One child: what to run, how to see that it is ready, and what to say then.

    ``prepare`` is called before every start, ``on_ready`` whenever it became ready. A cluster has a ``pulse``.
    """

    name: str
    argv: tuple[str, ...]
    is_ready: Callable[[], bool]
    ready_line: str
    env: dict[str, str] = field(default_factory=dict)
    prepare: Callable[[], object] = lambda: None
    on_ready: Callable[[], object] = lambda: None
    pulse: Pulse | None = None


def web(bind: str, port: int) -> Program:
    """gunicorn with uvicorn's worker."""
    address = authority(bind, port)
    options = ("--config", "python:zcplatform.gunicorn_conf", "--workers", str(settings.WEB_WORKERS), "--bind", address)
    return Program(
        name="web",
        argv=child.module("zcplatform.web", *options, "zcplatform.asgi:application"),
        env={**_environment(BIND=bind, PORT=str(port)), http_metrics.VARIABLE: str(http_metrics.folder())},
        prepare=http_metrics.begin,
        is_ready=lambda: _answers(reachable(bind), port),
        ready_line=f"web on http://{address}",
    )


def cluster(name: str) -> Program:
    """One cluster of the queue, with the number of workers that its settings say."""
    alternatives: Any = settings.Q_CLUSTER["ALT_CLUSTERS"]
    workers = int(alternatives.get(name, settings.Q_CLUSTER)["workers"])
    board = Board(name)
    return Program(
        name=name,
        argv=child.module("zcplatform.cluster", name),
        env=_environment(),
        prepare=board.clear,
        is_ready=lambda: board.changed_at() > 0,
        ready_line=f"workers of {name}: {workers}",
        pulse=Pulse(name, workers, board),
    )


def caddy() -> Program:
    """Caddy with its first configuration; the routes follow from the database."""
    command = caddy_process.prepare()
    return Program(
        name="caddy",
        argv=command.argv,
        env=command.env,
        prepare=caddy_process.prepare,
        is_ready=lambda: _accepts(str(command.socket)),
        on_ready=_push_routes,
        ready_line=f"router: caddy on {settings.CADDY_LISTEN}",
    )


def egress_proxy() -> Program:
    """The proxy of the agents whose networks lead nowhere else; it follows the networks by itself."""
    written = stats_file()
    return Program(
        name="egress",
        argv=child.module("zcplatform.egress_proxy"),
        env=_environment(),
        prepare=lambda: written.unlink(missing_ok=True),
        is_ready=written.exists,
        ready_line=f"egress proxy on port {settings.EGRESS_PROXY_PORT} of the agents' networks",
    )


def _push_routes() -> None:
    """A Caddy that has just started is empty; the sweep would find that within 30 s, but nobody should wait."""
    async_task("tenants.tasks.sync_routes", cluster="runs", task_name="routes")


def _environment(**ours: str) -> dict[str, str]:
    """The caller's, with ``ours`` as settings and the platform importable from any working directory."""
    given = {env.PREFIX + name: value for name, value in ours.items()}
    kept = {name: value for name, value in os.environ.items() if name.removesuffix("_FILE") not in given}
    return {**kept, **given, "PYTHONPATH": child.python_path()}


def _answers(host: str, port: int) -> bool:
    """Any answer will do; gunicorn accepts connections long before a worker can speak."""
    web = http.client.HTTPConnection(host, port, timeout=0.3)
    try:
        web.request("GET", "/healthz")
        web.getresponse()
    except (OSError, http.client.HTTPException):
        return False
    finally:
        web.close()
    return True


def _accepts(path: str) -> bool:
    with socket.socket(socket.AF_UNIX) as client:
        client.settimeout(0.2)
        return client.connect_ex(path) == 0
