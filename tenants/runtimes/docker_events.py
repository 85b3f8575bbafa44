"""What the engine tells by itself: what happened to our containers, and to the networks that they are in."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from datetime import datetime
from typing import Any

from django.conf import settings

from tenants.runtimes.base import LABEL_INSTANCE, LABEL_TENANT, Happening
from tenants.runtimes.docker_engine import Engine, in_our_words
from zcplatform.lib.errors import DependencyTimeout

QUIET_S = 60.0
"""An engine that told nothing for so long is asked anew: a connection may be dead without a word."""
PAUSE_S = 1.0
OF_CONTAINERS = ("die", "oom", "pause", "destroy", "update")
OF_NETWORKS = ("connect", "disconnect")
FILTERS = {"type": ["container", "network"], "event": [*OF_CONTAINERS, *OF_NETWORKS]}


def follow(engine: Engine) -> Iterator[Happening | None]:
    """See ``Runtime.watch``. What falls between two connections is asked for by the time of the last answer."""
    since = engine_time(engine)
    while True:
        yield None
        try:
            with in_our_words("events"):
                for event in engine.call("events", since=since, filters=FILTERS, decode=True, limit_s=QUIET_S):
                    since = max(since, int(event.get("time", 0)))
                    if happening := read(event):
                        yield happening
            return
        except DependencyTimeout:
            time.sleep(PAUSE_S)  # nothing happened for a while, or the line was cut


def engine_time(engine: Engine) -> int:
    """The engine's own clock in whole seconds: it may stand on another host."""
    return int(datetime.fromisoformat(engine.call("info")["SystemTime"]).timestamp())


def read(event: Mapping[str, Any]) -> Happening | None:
    """None for what is not of this installation's agents. Networks tell the container's id only."""
    actor = event.get("Actor") or {}
    about = actor.get("Attributes") or {}
    if event.get("Type") == "network":
        return Happening(agent=str(about["container"])) if about.get("container") else None
    if about.get(LABEL_INSTANCE) != settings.INSTANCE or not about.get(LABEL_TENANT):
        return None
    return Happening(tenant=str(about[LABEL_TENANT]))
