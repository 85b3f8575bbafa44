"""Real, read-only calls to a tenant's model provider and channels, to see whether what was entered works.

All go through the guarded client. Of an address that the tenant chose nothing is told but whether it worked: a test
must not serve as a scanner of ports.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from django.db import transaction

from tenants import channel_calls, configuration, origins, secrets
from tenants.access import require
from tenants.configuration import ConfigInput
from tenants.egress import reach
from tenants.models import AgentConfig, Channel, Tenant
from tenants.probe import probe
from tenants.providers import PROVIDERS, endpoint_of
from tenants.runs import audit
from tenants.states import Status
from zcplatform.lib import http
from zcplatform.lib.actors import Actor
from zcplatform.lib.errors import Conflict, FaultError, InvalidField
from zcplatform.lib.redact import SecretStr

TOTAL_S = 10.0
MAX_ANSWER = 2 * 1_048_576
FAILED = "The service could not be reached there, or did not accept what was sent."
BUCKETS = ((1.0, "under 1 s"), (5.0, "1 to 5 s"))
"""Roughly how long it took: an exact figure would tell a closed port from a filtered one."""


@dataclass(frozen=True)
class Result:
    """``ok`` is None where the platform can't tell from here; ``message`` says why."""

    ok: bool | None
    message: str
    took: str = ""


def try_provider(*, actor: Actor, tenant: Tenant, given: ConfigInput | None = None) -> Result:
    """Read the provider's list of models with the tenant's key, as stored or with the changes of ``given``.

    Conflict ``no_provider`` when there is none; InvalidField as for a change of the configuration.
    """
    require(actor, "provider.test", tenant)
    config, key = _provider(actor, tenant, given or ConfigInput())
    endpoint = endpoint_of(config, key)
    if endpoint is None:
        raise Conflict("There is no provider to test.", type="no_provider")
    kind = PROVIDERS[endpoint.provider]
    url = kind.test_url or f"{endpoint.base_url}/models"
    result = _call(kind.base_url != "", "GET", url, _bearer(endpoint.provider, endpoint.api_key))
    if result.ok and (why := reach.why_not(tenant, url)):
        result = Result(False, f"The service works, but the agent can't reach it. {why}", result.took)
    _record(tenant, "provider.test", actor, result, provider=kind.name)
    return result


def try_channel(*, actor: Actor, channel: Channel) -> Result:
    """Ask the channel's service who we are, where it has such a question; nothing is sent to anybody."""
    tenant = channel.tenant
    require(actor, "channels.update", tenant)
    if channel.channel_type == "webhook":
        result = _webhook(tenant)
    elif missing := configuration.missing_secrets(channel):
        result = Result(False, f"The channel lacks its {missing[0]}.")
    else:
        result = _ask(channel, secrets.reveal_channel(channel, actor=actor, why="test channel"))
    _record(tenant, "channel.test", actor, result, channel=str(channel.public_id), kind=channel.channel_type)
    return result


def _provider(actor: Actor, tenant: Tenant, given: ConfigInput) -> tuple[AgentConfig, SecretStr | None]:
    """The provider's columns and its key. Another place comes without the stored key."""
    checked = configuration.check(tenant.agent_kind, given, tenant)
    config = AgentConfig(**{"provider_name": "", **_columns(tenant.config), **checked.columns})
    if checked.provider_key is not None:
        return config, checked.provider_key or None
    origin = origins.of_model(config)
    return config, secrets.reveal_field(tenant, "provider_key", origin=origin, actor=actor, why="test provider")


def _columns(config: AgentConfig) -> dict[str, Any]:
    return {name: getattr(config, name) for name in ("provider_name", "provider_model", "base_url")}


def _bearer(provider: str, key: SecretStr) -> dict[str, str]:
    headers = {"Authorization": f"Bearer {key.reveal()}"}
    if provider == "anthropic":  # its list of models knows only its own header
        headers |= {"x-api-key": key.reveal(), "anthropic-version": "2023-06-01"}
    return headers


def _ask(channel: Channel, opened: Mapping[str, SecretStr]) -> Result:
    values = {**channel.config, **{name: secret.reveal() for name, secret in opened.items()}}
    call = channel_calls.call_for(channel.channel_type, values)
    if call is None:
        return Result(None, "This kind of channel can't be tested from the platform: its service has no such question.")
    return _call(call.known, call.method, call.url, call.headers, body=call.body, accepts=call.accepts)


def _webhook(tenant: Tenant) -> Result:
    """Messages come in here, so there is nobody to call but the agent."""
    if not tenant.routed or tenant.status != Status.RUNNING:
        return Result(False, "The agent is not running, so nothing takes in messages.")
    answers = probe(tenant)
    return Result(answers, "The agent answers at its address." if answers else "The agent does not answer.")


def _call(
    known: bool,
    method: str,
    url: str,
    headers: Mapping[str, str],
    *,
    body: Any = None,
    accepts: channel_calls.Accepts | None = None,
) -> Result:
    """``known`` is a service whose address the platform itself wrote down: of it the status may be told."""
    began = time.monotonic()
    try:
        reply = http.request(method, url, headers=headers, body=body, total_s=TOTAL_S, max_bytes=MAX_ANSWER)
        ok = reply.ok and (accepts is None or accepts(reply.json()))
        message = "It works." if ok else _refusal(reply.status) if known else FAILED
    except (FaultError, InvalidField):
        ok, message = False, "The service could not be reached." if known else FAILED
    return Result(ok, message, _bucket(time.monotonic() - began))


def _refusal(status: int) -> str:
    if status in (200, 400, 401, 403, 404):
        return "The service did not accept the key."
    return f"The service answered with the status {status}."


def _bucket(seconds: float) -> str:
    return next((name for limit, name in BUCKETS if seconds < limit), "over 5 s")


def _record(tenant: Tenant, action: str, actor: Actor, result: Result, **detail: str) -> None:
    with transaction.atomic():
        audit(tenant, action, actor, ok=result.ok, **detail)
