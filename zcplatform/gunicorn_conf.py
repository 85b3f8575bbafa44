"""How gunicorn runs the web processes; the address and the number of workers come from ``serve``."""

from __future__ import annotations

import gc
import logging
from typing import Any

from django.conf import settings
from uvicorn_worker import UvicornWorker

from zcplatform import leash


class Worker(UvicornWorker):
    """Without uvicorn's own reading of forwarded headers: ``zcplatform.lib.client_ip`` is the one place for it."""

    CONFIG_KWARGS = {**UvicornWorker.CONFIG_KWARGS, "proxy_headers": False}

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        for name in ("uvicorn.error", "uvicorn.access"):  # it gave them gunicorn's handlers, which are none here
            logging.getLogger(name).propagate = True


worker_class = "zcplatform.gunicorn_conf.Worker"
preload_app = True  # by the master, once: a lost worker is replaced in a moment, and most of its memory is shared
graceful_timeout = 25  # seconds for open requests and streams; serve itself allows 30
keepalive = 15  # seconds; more than Caddy keeps a connection idle, see tenants.routing.caddy_config
control_socket_disable = True
proc_name = "zcplatform-web"
# Both servers' lines, and the traceback of what nobody caught, are scrubbed and in the form of all others.
_OURS = {name: {"handlers": [], "propagate": True} for name in ("gunicorn.error", "gunicorn.access")}
logconfig_dict = settings.LOGGING | {"loggers": settings.LOGGING["loggers"] | _OURS}


def when_ready(_server: Any) -> None:
    """All is loaded and no worker is there yet. What the workers' collectors never look at is never copied for them."""
    gc.collect()
    gc.freeze()


def post_fork(server: Any, worker: Any) -> None:
    """A web worker ends with its master: uvicorn's does not look after that itself."""
    leash.hold(server.pid)
