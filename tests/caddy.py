"""A real Caddy of the test's own: its own folder, its admin on a unix socket, a free port of the loopback."""

from __future__ import annotations

import http.client
import json
import shutil
import socket
import subprocess
import tempfile
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest

from tenants.routing.base import Route
from zcplatform import caddy_process


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


class RealCaddy:
    """Started and stopped by hand where a test asks for it; ``get`` speaks to its public side."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.port = free_port()
        self.process: subprocess.Popen[bytes] | None = None
        self.socket = folder / "run" / "caddy.sock"

    def start(self) -> None:
        command = caddy_process.prepare()
        assert command.socket == self.socket
        with (self.folder / "caddy.log").open("ab") as log:
            self.process = subprocess.Popen(command.argv, env=command.env, stdout=log, stderr=log)
        for _ in range(200):
            try:
                self.config("/")
                return
            except httpx.TransportError:
                assert self.process.poll() is None, (self.folder / "caddy.log").read_text()
                time.sleep(0.05)
        raise AssertionError("Caddy did not come up: " + (self.folder / "caddy.log").read_text())

    def kill(self) -> None:
        if self.process:
            self.process.kill()
            self.process.wait()

    def admin(self, method: str, path: str, content: Any = None) -> httpx.Response:
        """One call of the admin API, past the router."""
        with httpx.Client(transport=httpx.HTTPTransport(uds=str(self.socket)), base_url="http://caddy") as client:
            return client.request(method, path, json=content, timeout=10)

    def config(self, path: str) -> Any:
        return self.admin("GET", f"/config{path}").json()

    def server(self) -> Any:
        from tenants.routing.caddy import current_site

        return self.config(f"/apps/http/servers/{current_site().server_name}")

    def get(self, host: str, path: str = "/", **more: Any) -> tuple[int, bytes]:
        """Status and body of a request for ``host``, which is sent as it is spelled."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=10)
        try:
            connection.putrequest(more.get("method", "GET"), path, skip_host=True)
            connection.putheader("Host", host)
            for name, value in more.get("headers", {}).items():
                connection.putheader(name, value)
            connection.endheaders(more.get("body"))
            answer = connection.getresponse()
            return answer.status, answer.read()
        finally:
            connection.close()


@pytest.fixture
def caddy(settings) -> Iterator[RealCaddy]:
    """A running, empty Caddy; the settings point to it. Tests that use it bear the marker ``caddy``."""
    with real_caddy(settings) as real:
        yield real


@contextmanager
def real_caddy(settings: Any, folder: Path | None = None) -> Iterator[RealCaddy]:
    """The same outside of a test; the settings stay changed. A ``folder`` that is given stays."""
    given, folder = folder, folder or Path(tempfile.mkdtemp(prefix="zct-caddy-"))
    real = RealCaddy(folder)
    settings.HOME, settings.CADDY_ADMIN, settings.ROUTER = folder, "", "caddy"
    settings.CADDY_LISTEN, settings.CADDY_HTTPS = f"127.0.0.1:{real.port}", False
    settings.DOMAIN, settings.PUBLIC_HOST, settings.PORT = "localhost", "localhost", free_port()
    try:
        real.start()
        yield real
    finally:
        real.kill()
        if given is None:
            shutil.rmtree(folder)


def make_route(slug: str, port: int = 20_001, public_paths: tuple[str, ...] = ("/ws", "/webhook")) -> Route:
    """A route whose tenant follows from the slug, so that two calls with one slug mean the same tenant."""
    return Route(str(uuid.uuid5(uuid.NAMESPACE_DNS, slug)), slug, port, public_paths)


def dump(value: Any) -> str:
    return json.dumps(value, sort_keys=True)
