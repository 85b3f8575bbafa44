"""The one door to the container engine: a time limit on every call, and every failure in the platform's own words."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from typing import Any

import docker
import requests
from docker.errors import APIError, DockerException

from tenants.states import Reason
from zcplatform.lib.errors import DependencyDown, DependencyTimeout, RunFailed

CONNECT_S = 5
READ_S = 5
CREATE_S = 30
START_S = 30
REMOVE_S = 60
PULL_S = 600
MESSAGE_LENGTH = 500

# What the engine says, in the order in which it is looked for; it has no codes finer than the HTTP status.
SAYINGS = (
    ("no such image", Reason.IMAGE_MISSING),
    ("is already in use by container", Reason.NAME_CONFLICT),
    ("port is already allocated", Reason.PORT_CONFLICT),
    ("address already in use", Reason.PORT_CONFLICT),
    ("bind source path does not exist", Reason.FOLDER_FAILED),
    ("exchange full", Reason.NETWORK_FAILED),
    ("pool overlaps", Reason.NETWORK_FAILED),
    ("oci runtime create failed", Reason.BAD_CONFIG),
    ("executable file not found", Reason.BAD_CONFIG),
    ("network", Reason.NETWORK_FAILED),
)
NEVER_REACHED = (ConnectionRefusedError, FileNotFoundError, PermissionError)


class Refused(RunFailed):
    """The engine answered and said no. ``http_status`` is its answer's; ``type`` is a ``Reason``."""

    def __init__(self, message: str, *, type: str, http_status: int) -> None:
        super().__init__(message, type=type)
        self.http_status = http_status

    @property
    def absent(self) -> bool:
        return self.http_status == 404

    @property
    def conflict(self) -> bool:
        return self.http_status == 409


class _Client(docker.APIClient):
    def _set_request_timeout(self, kwargs: dict[str, Any]) -> dict[str, Any]:
        # Forced, not a default: the SDK itself asks for no limit at all on pull, import and build.
        kwargs["timeout"] = (CONNECT_S, self.timeout)
        return kwargs


class Engine:
    """Calls of the SDK's low-level client, by name. One client per thread; a forked child makes its own."""

    def __init__(self, host: str) -> None:
        self.host = host
        self._api_version = "auto"
        self._local = threading.local()

    @property
    def is_local(self) -> bool:
        """True when the engine's processes may be processes of this host."""
        return self.host.startswith("unix://")

    def call(self, verb: str, *args: Any, limit_s: float = READ_S, **kwargs: Any) -> Any:
        """``verb(*args, **kwargs)`` of the SDK. DependencyDown, DependencyTimeout (it may have been applied) or
        Refused; ``limit_s`` is the longest silence in seconds."""
        with in_our_words(verb):
            client = self._client()
            client.timeout = limit_s
            return getattr(client, verb)(*args, **kwargs)

    def _client(self) -> _Client:
        if getattr(self._local, "pid", None) != os.getpid():
            client = _Client(base_url=self.host, version=self._api_version, timeout=READ_S)
            self._local.client, self._local.pid = client, os.getpid()
            self._api_version = client.api_version
        return self._local.client


@cache
def engine_at(host: str) -> Engine:
    """The engine at ``host`` (``unix:///path``), shared by everybody in this process."""
    return Engine(host)


@contextmanager
def in_our_words(act: str) -> Iterator[None]:
    try:
        yield
    except APIError as error:
        raise _refusal(error, act) from error
    except requests.exceptions.ConnectTimeout as error:
        raise _down(act) from error
    except (requests.exceptions.Timeout, TimeoutError) as error:
        raise _late(act) from error
    except (requests.exceptions.RequestException, OSError) as error:
        # Once the connection stood, the engine may have heard us before it went silent.
        raise (_down(act) if _never_reached(error) else _late(act)) from error
    except DockerException as error:  # the SDK wraps whatever happens while it asks for the version
        raise _down(act) from error


def _refusal(error: APIError, act: str) -> Refused | DependencyDown:
    text = str(error.explanation or error)[:MESSAGE_LENGTH]
    if "no space left on device" in text.lower():
        return DependencyDown("No space left on the engine's disk.", type=Reason.WAITING_FOR_STORAGE, act=act)
    return Refused(
        f"The engine refused {act}: {text}", type=reason_of(text, error.status_code), http_status=error.status_code
    )


def reason_of(text: str, http_status: int) -> Reason:
    """The reason behind an engine's refusal."""
    lower = text.lower()
    for saying, reason in SAYINGS:
        if saying in lower:
            return reason
    return Reason.BAD_CONFIG if http_status == 400 else Reason.INTERNAL_ERROR


def _never_reached(error: BaseException | None) -> bool:
    """True when the connection was not made. urllib3 hides the operating system's error in the arguments of its own."""
    while error is not None:
        if isinstance(error, NEVER_REACHED):
            return True
        inner = [part for part in error.args if isinstance(part, BaseException)]
        error = inner[0] if inner else None
    return False


def _down(act: str) -> DependencyDown:
    return DependencyDown("The container engine does not answer.", type=Reason.WAITING_FOR_ENGINE, act=act)


def _late(act: str) -> DependencyTimeout:
    return DependencyTimeout("The container engine did not answer in time.", type=Reason.WAITING_FOR_ENGINE, act=act)
