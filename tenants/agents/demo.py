"""The demo agent: ships with the project and needs nothing.

It takes the configuration of every channel and lists them in ``/health``, but connects to none; with a webhook
channel, ``/webhook`` takes only signed messages.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tenants.agents import extra as extra_config
from tenants.agents import metrics
from tenants.agents.base import AgentSettings, Counters
from tenants.agents.openai import OpenAIChat
from tenants.agents.rendering import channel_values, json_file
from tenants.channels import CHANNELS
from tenants.fields import Field
from tenants.runtimes.base import Placement

PROGRAM = Path(__file__).with_name("demo_agent.py")
PROGRAM_IN_IMAGE = "/opt/zcplatform/demo_agent.py"
PYTHON_IN_IMAGE = "/usr/bin/python3"

EXTRA = (
    Field("metrics", "Metrics", choices=("both", "documents", "zeroclaw", "none"), help="Which names /metrics uses."),
    Field("stream_delay_ms", "Delay per word", "integer", low=0, high=60_000, help="Milliseconds, when streaming."),
)
FAULTS = (
    Field("exit_code", "Exit at once with this code", "integer", low=0, high=125),
    Field("never_healthy", "Never become healthy", "boolean"),
    Field("healthy_after_s", "Become healthy after", "number", low=0, high=3_600, help="Seconds."),
    Field("crash_after_s", "Crash after", "number", low=0, high=86_400, help="Seconds."),
    Field("hang", "Accept connections and never answer", "boolean"),
    Field("leak_mb_per_s", "Leak memory", "number", low=0, high=1_000, help="MB per second."),
    Field("ignore_sigterm", "Ignore SIGTERM", "boolean"),
    Field("print_kb", "Print at the start", "integer", low=0, high=1_000_000, help="KB."),
)


class DemoAgent(OpenAIChat):
    name = "demo"
    label = "Demo agent"
    min_memory_mb = 32
    start_grace_s = 10
    config_dir = "/config"
    data_dir = "/data"
    listen_port = 8080
    public_paths = ("/ws", "/webhook")
    diagnostic_commands = ((PYTHON_IN_IMAGE, "--version"),)
    channels = frozenset(CHANNELS)
    needs_model = False
    health_path = "/health"
    metrics_path: str | None = "/metrics"
    chat_model = "demo"

    def check_extra(self, extra: Mapping[str, Any]) -> dict[str, Any]:
        return extra_config.check(extra, EXTRA, {"faults": FAULTS})

    def config_files(self, settings: AgentSettings, place: Placement) -> dict[str, bytes]:
        model = settings.model
        config = {
            **settings.extra,
            "name": settings.name,
            "listen": {"host": place.listen_host, "port": place.listen_port},
            "token": settings.agent_token.reveal(),
            "model": model and {"base_url": model.base_url, "api_key": model.api_key.reveal(), "model": model.model},
            "channels": {
                channel.id: {"kind": channel.kind, **channel_values(channel)} for channel in settings.channels
            },
        }
        return {"demo.json": json_file(config)}

    def argv(self, place: Placement) -> tuple[str, ...]:
        python, program = (PYTHON_IN_IMAGE, PROGRAM_IN_IMAGE) if place.in_container else (sys.executable, str(PROGRAM))
        return (python, "-I", "-S", program, str(place.config_dir / "demo.json"))

    def env(self, place: Placement) -> dict[str, str]:
        return {"HOME": str(place.data_dir)}

    def healthy(self, status: int, body: bytes) -> bool:
        return status == 200

    def counters(self, text: str) -> Counters:
        return metrics.counters(text)
