"""How gunicorn runs the web processes; the address and the number of workers come from ``serve``."""

from __future__ import annotations

from typing import Any

from uvicorn_worker import UvicornWorker

from zcplatform import leash


class Worker(UvicornWorker):
    """Without uvicorn's own reading of forwarded headers: ``zcplatform.lib.client_ip`` is the one place for it."""

    CONFIG_KWARGS = {**UvicornWorker.CONFIG_KWARGS, "proxy_headers": False}


worker_class = "zcplatform.gunicorn_conf.Worker"
graceful_timeout = 25  # seconds for open requests and streams; serve itself allows 30
control_socket_disable = True
proc_name = "zcplatform-web"


def post_fork(server: Any, worker: Any) -> None:
    """A web worker ends with its master: uvicorn's does not look after that itself."""
    leash.hold(server.pid)
