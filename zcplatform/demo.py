"""A working platform in one command: every part is started as an operator would start it, by the same commands.

The demo lives in a home of its own (``demo/`` inside the configured one), so it never touches a real installation.
"""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx

from zcplatform.lib import child, env
from zcplatform.lib.errors import Misconfigured

CAST = Path(__file__).resolve().parent.parent / "fixtures" / "demo.json"
"""Who appears in the demo: the super-admin's address, and the tenants with their plans."""
START_S = 60
STOP_S = 40
INHERITED = {f"{env.PREFIX}DOCKER_HOST", f"{env.PREFIX}IMAGE_DEMO"}
Say = Callable[[str], None]


@dataclass
class Demo:
    """One demo: its environment, the supervisor it started, and how long each part took (seconds)."""

    runtime: str
    home: Path
    say: Say
    env: dict[str, str] = field(default_factory=dict)
    seconds: dict[str, float] = field(default_factory=dict)
    serve: subprocess.Popen[bytes] | None = None
    tenants: list[dict[str, Any]] = field(default_factory=list)
    ports: tuple[int, int] = (8_080, 8_443)

    def __post_init__(self) -> None:
        self.web, self.proxy = (_free_port(port) for port in self.ports)
        # Nothing of another installation's: its DATABASE_URL here, and the demo's teardown would be its end.
        inherited = {k: v for k, v in os.environ.items() if not k.startswith(env.PREFIX) or k in INHERITED}
        self.env = inherited | self._settings() | {"PYTHONPATH": child.python_path()}

    def _settings(self) -> dict[str, str]:
        values = {
            "HOME": str(self.home),
            "CONFIG": str(self.home / "platform.toml"),
            "DEBUG": "0",
            "DOMAIN": "localhost",
            "PORT": str(self.web),
            "PUBLIC_BASE_URL": f"http://localhost:{self.web}",
            "ROUTER": "caddy",
            "CADDY_LISTEN": f"127.0.0.1:{self.proxy}",
            "RUNTIME": self.runtime,
            "CONTAINER_PREFIX": "zcdemo",
            "SUBNET_POOL": "10.215.0.0/16",
            "ALLOW_UNPRIVILEGED_PROCESS": "1",
            "LOG_FORMAT": "json",
            "WEB_WORKERS": "1",
        }
        return {f"{env.PREFIX}{name}": value for name, value in values.items()}

    @contextmanager
    def part(self, name: str, told: str) -> Iterator[None]:
        began = time.monotonic()
        yield
        self.seconds[name] = round(time.monotonic() - began, 2)
        self.say(f"  ✓ {told:<44}{self.seconds[name]:6.1f} s")

    def manage(self, *argv: str) -> str:
        """Run a management command in the demo's environment; Misconfigured with its error when it fails."""
        done = subprocess.run([*_manage(), *argv], env=self.env, capture_output=True, text=True, timeout=300)
        if done.returncode:
            text = (done.stderr.strip() or done.stdout.strip() or "no output")[-2_000:]
            raise Misconfigured(f"{argv[0]} failed: {text}", type="demo_failed")
        return done.stdout

    def up(self) -> None:
        """Bootstrap, serve, and provision the two tenants."""
        cast = json.loads(CAST.read_text())
        with self.part("bootstrap", "folders, keys, database, super-admin"):
            self.manage("bootstrap", "--admin-email", cast["admin"], "--json")
        with self.part("serve", "web, workers and Caddy"):
            self._serve()
        for tenant in cast["tenants"]:
            name = tenant["name"]
            with self.part(f"provision_{name.lower()}", f"tenant {name} on the runtime {self.runtime}"):
                made = self.manage("provision", name, "--plan", tenant["plan"], "--runtime", self.runtime, "--json")
                self.tenants.append(json.loads(made))

    def chat(self) -> dict[str, Any]:
        """One chat through the first tenant's own address."""
        tenant = self.tenants[0]
        with self.part("chat", f"chat through {tenant['url']}"):
            answer = httpx.post(
                f"http://127.0.0.1:{self.proxy}/v1/chat/completions",
                headers={
                    "Host": f"{tenant['tenant']}.localhost:{self.proxy}",
                    "Authorization": f"Bearer {tenant['access_token']}",
                },
                json={"messages": [{"role": "user", "content": "Hello from the demo"}]},
                timeout=30,
                trust_env=False,
            )
        if answer.status_code != 200:
            raise Misconfigured(f"The chat was answered with {answer.status_code}: {answer.text[:500]}")
        return {"status": answer.status_code, "reply": answer.json()["choices"][0]["message"]["content"]}

    def down(self) -> None:
        """Delete the tenants, then stop what was started; a part that was never there is fine."""
        with self.part("teardown", "tenants deleted, everything stopped"):
            if self.serve is None or self.serve.poll() is not None:
                self.env["ZCPLATFORM_ROUTER"] = "direct"  # Caddy is gone, and so are the routes
            try:
                if (self.home / "zcplatform.db").exists():
                    self.manage("teardown", "--yes", "--json")
            finally:
                self._stop()

    def _serve(self) -> None:
        (self.home / "run").mkdir(exist_ok=True)
        with (self.home / "run" / "serve.log").open("ab") as log:
            # In a group of its own: Ctrl-C is meant for us, and the tenants' routes are withdrawn while Caddy answers.
            argv = [*_manage(), "serve"]
            self.serve = subprocess.Popen(argv, env=self.env, stdout=log, stderr=log, process_group=0)
        until = time.monotonic() + START_S
        while not self._ready():
            if self.serve.poll() is not None or time.monotonic() > until:
                tail = (self.home / "run" / "serve.log").read_text(errors="replace")[-1_500:]
                raise Misconfigured(f"The platform did not come up. Its log ends with:\n{tail}", type="demo_failed")
            time.sleep(0.2)

    def _ready(self) -> bool:
        try:
            with httpx.Client(trust_env=False, timeout=2) as client:
                return client.get(f"http://127.0.0.1:{self.web}/readyz").status_code == 200
        except httpx.HTTPError:
            return False

    def _stop(self) -> None:
        if self.serve is None:
            return
        self.serve.send_signal(signal.SIGTERM)
        try:
            self.serve.wait(STOP_S)
        except subprocess.TimeoutExpired:
            self.serve.kill()
            self.serve.wait()


def check(runtime: str, say: Say) -> dict[str, Any]:
    """Everything once in a folder of its own: up, one chat, down. The result as one JSON object."""
    with tempfile.TemporaryDirectory(prefix="zcdemo-") as folder:
        home = Path(folder)
        home.chmod(0o711)
        demo = Demo(runtime, home, say, ports=(0, 0))  # several checks may run at once
        try:
            demo.up()
            reply = demo.chat()
        finally:
            demo.down()
    urls = [tenant["url"] for tenant in demo.tenants]
    return {"ok": True, "runtime": runtime, "tenants": urls, "chat": reply, "seconds": demo.seconds}


def stay(runtime: str, home: Path, say: Say) -> None:
    """Up, print how to use it, and stay until interrupted; then down."""
    home.mkdir(parents=True, exist_ok=True)
    demo = Demo(runtime, home, say)
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.default_int_handler)
    try:
        demo.up()
        link = demo.manage("login_link", json.loads(CAST.read_text())["admin"]).strip().splitlines()[-1]
        tenant = demo.tenants[0]
        say(f"\nAdmin, one-time login link:\n  {link}\n\nTenants:")
        for made in demo.tenants:
            say(f"  {made['url']}")
        say(
            f"\nChat with {tenant['tenant']}:\n"
            f"  curl -s {tenant['url']}/v1/chat/completions -H 'Authorization: Bearer {tenant['access_token']}' \\\n"
            '    -H \'Content-Type: application/json\' -d \'{"messages":[{"role":"user","content":"Hello"}]}\'\n'
            "\nCtrl-C takes everything down again."
        )
        if demo.serve is not None:
            demo.serve.wait()
    except KeyboardInterrupt:
        say("")
    finally:
        demo.down()


def _manage() -> list[str]:
    return [*child.module("zcplatform")]


def _free_port(wanted: int) -> int:
    """``wanted`` when nothing listens there, or any free one."""
    for port in (wanted, 0):
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
            return int(probe.getsockname()[1])
    raise Misconfigured("There is no free port on the loopback.", type="demo_failed")
