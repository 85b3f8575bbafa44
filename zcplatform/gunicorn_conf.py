"""How gunicorn runs the web processes; the address and the number of workers come from ``serve``."""

from __future__ import annotations

from typing import Any

from zcplatform import leash

worker_class = "uvicorn_worker.UvicornWorker"
graceful_timeout = 25  # seconds for open requests and streams; serve itself allows 30
control_socket_disable = True
proc_name = "zcplatform-web"


def post_fork(server: Any, worker: Any) -> None:
    """A web worker ends with its master: uvicorn's does not look after that itself."""
    leash.hold(server.pid)
