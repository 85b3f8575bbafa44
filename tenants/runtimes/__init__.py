"""Where agents run. ``runtime_for(node)`` gives the driver; a new one is a module and a line in settings.RUNTIMES.

A driver is a class that is made with the node's endpoint (empty: this host's default).
"""

from __future__ import annotations

import os
from functools import lru_cache
from typing import TYPE_CHECKING, cast

from django.conf import settings
from django.utils.module_loading import import_string

from zcplatform.lib.errors import Misconfigured

if TYPE_CHECKING:
    from tenants.models import Node
    from tenants.runtimes.base import Runtime


def runtime_for(node: Node) -> Runtime:
    """The driver of the node, one per endpoint in each process; Misconfigured ``unknown_runtime``."""
    return _driver(os.getpid(), node.runtime, node.endpoint)


@lru_cache(maxsize=64)
def _driver(pid: int, kind: str, endpoint: str) -> Runtime:
    """``pid`` keeps a forked worker from using the connections of its parent."""
    if kind not in settings.RUNTIMES:
        raise Misconfigured(f"There is no runtime “{kind}”.", type="unknown_runtime", runtime=kind)
    return cast("Runtime", import_string(settings.RUNTIMES[kind])(endpoint))
