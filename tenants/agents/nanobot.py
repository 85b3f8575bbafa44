"""nanobot 0.3: a Python agent, run as ``nanobot serve``, which answers chat requests and nothing else.

It keeps sessions and media beside its configuration file, and ours is read-only. So it is started by a few lines
that put a link to the file into the data folder, where it takes the folder of the link for its own.

It carries no channels: they need ``nanobot gateway``, a second program that does not serve chat requests.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from typing import Any

from tenants.agents import extra as extra_config
from tenants.agents.base import AgentSettings, ChatCall, Counters
from tenants.agents.literal import ENVIRONMENT, literal
from tenants.agents.openai import PATH, OpenAIChat, bearer, last_user_text
from tenants.agents.rendering import json_file, required_model
from tenants.fields import Field
from tenants.runtimes.base import Placement
from zcplatform.lib.redact import SecretStr
from zcplatform.lib.text import check_text

EXTRA = (
    Field("temperature", "Temperature", "number", low=0, high=2),
    Field("max_tokens", "Longest answer", "integer", low=1, high=1_000_000, help="Tokens."),
)
SESSION_LENGTH = 100  # becomes part of a file name
_THEIR_EXTRA = {"temperature": "temperature", "max_tokens": "maxTokens"}
START = """\
import os, sys
config, home = sys.argv[1:]
folder = os.path.join(home, ".nanobot")
link = os.path.join(folder, "config.json")
os.makedirs(folder, exist_ok=True)
if os.path.lexists(link):
    os.remove(link)
os.symlink(config, link)
os.execvp("nanobot", ["nanobot", "serve"])
"""


class NanobotAgent(OpenAIChat):
    name = "nanobot"
    label = "nanobot"
    min_memory_mb = 256
    start_grace_s = 60
    config_dir = "/config"
    data_dir = "/data"
    listen_port = 8080
    public_paths: tuple[str, ...] = ()
    diagnostic_commands = (("nanobot", "--version"), ("nanobot", "status"))
    channels: frozenset[str] = frozenset()
    needs_model = True
    health_path = "/health"
    metrics_path: str | None = None

    def check_extra(self, extra: Mapping[str, Any]) -> dict[str, Any]:
        return extra_config.check(extra, EXTRA)

    def config_files(self, settings: AgentSettings, place: Placement) -> dict[str, bytes]:
        model = required_model(settings)
        defaults = {
            "workspace": str(place.data_dir / "workspace"),
            "model": model.model,
            "provider": "custom",
            "botName": settings.name,
        }
        defaults |= {theirs: settings.extra[ours] for ours, theirs in _THEIR_EXTRA.items() if ours in settings.extra}
        config = {
            "agents": {"defaults": defaults},
            "providers": {"custom": {"apiKey": model.api_key.reveal(), "apiBase": model.base_url}},
            "api": {
                "host": place.listen_host,
                "port": place.listen_port,
                "timeout": 300,
                "apiKey": settings.agent_token.reveal(),
            },
            "tools": {"restrictToWorkspace": True},
        }
        return {"config.json": json_file(literal(config))}

    def argv(self, place: Placement) -> tuple[str, ...]:
        python = "python3" if place.in_container else sys.executable
        return (python, "-I", "-S", "-c", START, str(place.config_dir / "config.json"), str(place.data_dir))

    def env(self, place: Placement) -> dict[str, str]:
        return {**ENVIRONMENT, "HOME": str(place.data_dir)}

    def healthy(self, status: int, body: bytes) -> bool:
        return status == 200

    def counters(self, text: str) -> Counters:
        return Counters()

    def chat_call(self, body: Mapping[str, Any], token: SecretStr) -> ChatCall:
        """nanobot takes exactly one message, keeps the conversation by ``session_id`` itself, and refuses the name
        of any model but its own."""
        call: dict[str, Any] = {
            "messages": [{"role": "user", "content": last_user_text(body)}],
            "stream": body.get("stream") is True,
        }
        if "user" in body:
            call["session_id"] = check_text(body["user"], field="user", max_length=SESSION_LENGTH)
        return ChatCall(PATH, bearer(token), call)
