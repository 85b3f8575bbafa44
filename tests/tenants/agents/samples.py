"""Agents' settings with everything in them, and hypothesis strategies over all of Unicode."""

from __future__ import annotations

import string
from pathlib import Path, PurePosixPath

from hypothesis import strategies as st

from tenants.agents.base import AgentSettings, ChannelSettings, ModelEndpoint
from tenants.channels import CHANNELS
from tenants.runtimes.base import Placement
from zcplatform.lib.redact import SecretStr

GOLDEN = Path(__file__).parent / "golden"
HOSTILE = (
    'x"\n[security]\nallow_all=true',
    "'''\n\"\"\"",
    "\\u0000\\",
    "{{config.token}}",
    "${HOME}",
    "$${HOME}",
    "${ZC_DOLLAR}{HOME}",
    "{% include %}",
    "$(id)",
    "é\u2028\u202e🦀",
)


def place(kind, in_container=True):
    if in_container:
        return Placement("0.0.0.0", kind.listen_port, PurePosixPath(kind.config_dir), PurePosixPath(kind.data_dir))
    folder = PurePosixPath("/srv/tenants/t1")
    return Placement("127.0.0.1", 21_001, folder / "config", folder / "data", in_container=False)


def _sample(field):
    if field.type == "integer":
        return 993
    if field.type == "boolean":
        return True
    if field.type == "list":
        return ["alice", "bob"]
    return f"{field.name} of it"


def channel(name, number=1, **config):
    schema = CHANNELS[name]
    values = {field.name: _sample(field) for field in schema.fields if not field.secret}
    secrets = {secret: SecretStr(f"canary-{name}-{secret}") for secret in schema.secret_fields}
    return ChannelSettings(f"c{number}", name, {**values, **config}, secrets)


def settings_for(kind, **changes):
    """Every channel that ``kind`` can carry, a model, and a secret of each sort that starts with ``canary-``."""
    values = {
        "tenant": "8d7f2f3e-0000-4000-8000-000000000001",
        "slug": "acme-1",
        "name": "Acme “Bot”",
        "agent_token": SecretStr("canary-agent-token"),
        "model": ModelEndpoint("openai", "gpt-4o", "https://api.openai.com/v1", SecretStr("canary-provider-key")),
        "channels": tuple(channel(name, n) for n, name in enumerate(sorted(kind.channels), 1)),
        "extra": {},
    }
    return AgentSettings(**{**values, **changes})


# Everything that UTF-8 can hold; lone surrogates are refused at validation and have a test of their own there.
texts = st.one_of(st.text(max_size=40), st.sampled_from(HOSTILE), st.text(alphabet='${}"\\\n' + string.ascii_uppercase))
