"""ZeroClaw's configuration against the program's own rules, with every channel and with whatever a tenant may write."""

from __future__ import annotations

import copy
import tomllib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tenants.agents import agent_kind
from tests.tenants.agents import zeroclaw_rules as rules
from tests.tenants.agents.samples import channel, place, settings_for, texts

KIND = agent_kind("zeroclaw")


def rendered(**changes):
    files = KIND.config_files(settings_for(KIND, **changes), place(KIND))
    return tomllib.loads(files["config.toml"].decode())


def test_with_every_channel_it_breaks_no_rule():
    config = rendered(extra={"autonomy": "full", "temperature": 0.5, "max_tokens": 100})
    assert len(config["channels"]) == len(KIND.channels)
    assert rules.violations(config) == []


def test_without_a_channel_it_breaks_no_rule():
    assert rules.violations(rendered(channels=())) == []


def test_as_a_process_it_listens_on_the_loopback():
    files = KIND.config_files(settings_for(KIND), place(KIND, in_container=False))
    config = tomllib.loads(files["config.toml"].decode())
    assert rules.violations(config, bound_outside=False) == []


@given(st.sampled_from(sorted(KIND.channels)), texts, texts)
def test_whatever_a_tenant_writes_breaks_no_rule(name, text, model):
    config = rendered(name=text, channels=(channel(name, 1, allow_from=[f"{text}x".replace("*", "")]),))
    assert rules.violations(config) == []


@pytest.mark.parametrize("in_container", [True, False])
def test_its_environment_has_no_name_that_would_abort_its_start(in_container):
    assert rules.environment_violations(KIND.env(place(KIND, in_container=in_container))) == []


BREAKS = {
    "schema": lambda c: c.update(schema_version=2),
    "alias": lambda c: c["agents"].update({"my-agent": c["agents"]["main"]}),
    "no uri": lambda c: c["providers"]["models"]["custom"]["main"].pop("uri"),
    "no model": lambda c: c["providers"]["models"]["custom"]["main"].update(model=""),
    "disabled": lambda c: c["agents"]["main"].update(enabled=False),
    "no provider": lambda c: c["agents"]["main"].update(model_provider="main"),
    "no risk profile": lambda c: c["agents"]["main"].pop("risk_profile"),
    "no runtime profile": lambda c: c.update(runtime_profiles={}),
    "level": lambda c: c["risk_profiles"]["main"].update(level="root"),
    "unknown channel": lambda c: c["agents"]["main"]["channels"].append("telegram.gone"),
    "loopback": lambda c: c["gateway"].update(host="127.0.0.1"),
    "bind": lambda c: c["gateway"].pop("allow_public_bind"),
    "no pairing": lambda c: c["gateway"].update(require_pairing=False),
    "open pairing": lambda c: c["gateway"].update(paired_tokens=[]),
    "plain token": lambda c: c["gateway"].update(paired_tokens=["secret"]),
    "updates": lambda c: c["gateway"].pop("check_updates"),
    "channel off": lambda c: c["channels"]["telegram"]["c10"].pop("enabled"),
    "no token": lambda c: c["channels"]["telegram"]["c10"].pop("bot_token"),
    "old list": lambda c: c["channels"]["telegram"]["c10"].update(allowed_users=["1"]),
    "slack": lambda c: c["channels"].update(slack={}),
    "no group": lambda c: c.update(peer_groups={}),
    "foreign group": lambda c: c["peer_groups"]["c10"].update(channel="telegram.gone"),
    "group's agent": lambda c: c["peer_groups"]["c10"].update(agents=["gone"]),
    "anyone": lambda c: c["peer_groups"]["c10"].update(external_peers=["*"]),
    "encryption": lambda c: c.pop("secrets"),
    "no metrics": lambda c: c.pop("observability"),
    "memory": lambda c: c.pop("memory"),
}


@pytest.mark.parametrize("name", BREAKS)
def test_each_rule_is_seen_when_it_is_broken(name):
    config = copy.deepcopy(rendered())
    BREAKS[name](config)
    assert rules.violations(config) != []


@pytest.mark.parametrize("name", ["API_KEY", "PROVIDER", "ZEROCLAW_MODEL", "ZEROCLAW_gateway__port", "zeroclaw_x"])
def test_a_name_that_would_abort_the_start_is_seen(name):
    assert rules.environment_violations({name: "x"}) == [name]
