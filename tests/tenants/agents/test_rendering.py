"""What each kind's files say: golden files, and properties over all of Unicode."""

import hashlib
import json
import os
import re
import tomllib

import pytest
import yaml
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from tenants.agents import agent_kind, kinds
from tenants.agents.base import ModelEndpoint
from tenants.agents.rendering import json_file, yaml_file
from tests.tenants.agents.samples import GOLDEN, HOSTILE, channel, place, settings_for, texts
from zcplatform.lib.errors import InvalidField, RunFailed
from zcplatform.lib.redact import SecretStr

KINDS = ("demo", "zeroclaw", "openclaw", "nanobot")
EXTRA = {
    "demo": {"metrics": "both", "faults": {"healthy_after_s": 2.5}},
    "zeroclaw": {"temperature": 0.5, "max_tokens": 100, "autonomy": "full"},
    "openclaw": {"max_tokens": 100},
    "nanobot": {"temperature": 0.5, "max_tokens": 100},
}


def parse(name, content):
    """As the program that reads the file does, by the file's name."""
    if name.endswith((".yaml", ".yml")):
        return yaml.safe_load(content)
    return tomllib.loads(content.decode()) if name.endswith(".toml") else json.loads(content)


def filled_in(value):
    """What OpenClaw and nanobot make of their file: ``${NAME}`` from the environment, in one pass."""
    if isinstance(value, str):
        return re.sub(r"\$\{([A-Za-z_]\w*)\}", lambda m: {"ZC_DOLLAR": "$"}[m[1]], value)
    if isinstance(value, dict):
        return {key: filled_in(item) for key, item in value.items()}
    return [filled_in(item) for item in value] if isinstance(value, list) else value


def read(kind, settings):
    """The parsed file, as the program sees it."""
    ((name, content),) = kind.config_files(settings, place(kind)).items()
    parsed = parse(name, content)
    return filled_in(parsed) if kind.name in ("openclaw", "nanobot") else parsed


def keys_of(value):
    if isinstance(value, dict):
        return {key: keys_of(item) for key, item in value.items()}
    return [keys_of(item) for item in value] if isinstance(value, list) else None


FILES = [("file.json", json_file), ("file.yaml", yaml_file)]
values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | texts,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(texts, inner, max_size=4),
    max_leaves=12,
)


@pytest.mark.parametrize(("name", "render"), FILES)
@given(value=st.dictionaries(texts, values, max_size=4))
def test_e1_whatever_stands_in_a_file_comes_back_from_its_own_parser(name, render, value):
    assert parse(name, render(value)) == value


@pytest.mark.parametrize(("name", "render"), FILES)
@pytest.mark.parametrize(
    "text", ["🦀", "\\ud83d\\ude00", "\\\\🦀", "a\x7fb\x85c\ufeffd\u2028e", "1e+16", "yes", "- x: y"]
)
def test_e1_a_text_that_readers_disagree_about_comes_back(name, render, text):
    value = {"key": text, text: 1e16, "small": 1e-7, "many": [text]}
    assert parse(name, render(value)) == value


@pytest.mark.parametrize("name", KINDS)
def test_the_files_are_the_golden_ones(name):
    kind = agent_kind(name)
    files = kind.config_files(settings_for(kind, extra=kind.check_extra(EXTRA[name])), place(kind))
    for file, content in files.items():
        golden = GOLDEN / f"{name}-{file}"
        if os.environ.get("UPDATE_GOLDEN"):
            golden.write_bytes(content)
        assert content.decode() == golden.read_text()


@pytest.mark.parametrize("name", KINDS)
def test_the_same_settings_give_the_same_bytes(name):
    kind = agent_kind(name)
    assert kind.config_files(settings_for(kind), place(kind)) == kind.config_files(settings_for(kind), place(kind))


@pytest.mark.parametrize("name", KINDS)
@given(bot=texts, token=texts, key=texts, model=texts)
@hypothesis_settings(max_examples=60, deadline=None)
def test_e1_text_comes_back_as_it_went_in_and_adds_no_key(name, bot, token, key, model):
    kind = agent_kind(name)
    endpoint = ModelEndpoint("custom", model, "https://example.test/v1", SecretStr(key))
    config = read(kind, settings_for(kind, name=bot, agent_token=SecretStr(token), model=endpoint))
    assert keys_of(config) == keys_of(read(kind, settings_for(kind)))
    assert values_at(config, name) == expected(name, bot=bot, token=token, key=key, model=model)


def values_at(config, name):
    if name == "demo":
        return config["name"], config["token"], config["model"]["api_key"], config["model"]["model"]
    if name == "zeroclaw":
        provider = config["providers"]["models"]["custom"]["main"]
        return config["gateway"]["paired_tokens"], provider["api_key"], provider["model"]
    if name == "openclaw":
        provider = config["models"]["providers"]["claw"]
        return config["gateway"]["auth"]["token"], provider["apiKey"], provider["models"][0]["id"]
    defaults = config["agents"]["defaults"]
    return defaults["botName"], config["api"]["apiKey"], config["providers"]["custom"]["apiKey"], defaults["model"]


def expected(name, *, bot, token, key, model):
    if name == "zeroclaw":
        return [hashlib.sha256(token.encode()).hexdigest()], key, model
    return (token, key, model) if name == "openclaw" else (bot, token, key, model)


@given(value=texts, people=st.lists(texts, max_size=3))
@hypothesis_settings(max_examples=60, deadline=None)
def test_e1_channel_values_come_back_as_they_went_in(value, people):
    kind = agent_kind("zeroclaw")
    irc = channel("irc", nickname=value, allow_from=people)
    config = read(kind, settings_for(kind, channels=(irc,)))
    assert config["channels"]["irc"]["c1"]["nickname"] == value
    assert config["peer_groups"]["c1"]["external_peers"] == people
    assert config["channels"].keys() == {"irc"}


@given(token=texts, people=st.lists(texts, min_size=1, max_size=3))
@hypothesis_settings(max_examples=60, deadline=None)
def test_e1_openclaw_channel_values_come_back_as_they_went_in(token, people):
    kind = agent_kind("openclaw")
    telegram = channel("telegram", allow_from=people)
    telegram.secrets["bot_token"] = SecretStr(token)
    config = read(kind, settings_for(kind, channels=(telegram,)))
    assert config["channels"]["telegram"]["botToken"] == token
    assert config["channels"]["telegram"]["allowFrom"] == people


@pytest.mark.parametrize("name", KINDS)
@pytest.mark.parametrize("text", HOSTILE)
def test_e3_templates_and_variables_stay_literal_text(name, text):
    kind = agent_kind(name)
    endpoint = ModelEndpoint("custom", text, "https://example.test/v1", SecretStr(text))
    config = read(kind, settings_for(kind, name=text, agent_token=SecretStr(text), model=endpoint))
    assert values_at(config, name) == expected(name, bot=text, token=text, key=text, model=text)


def test_the_test_of_literal_text_can_fail():
    assert filled_in("${ZC_DOLLAR}{HOME}") == "${HOME}"
    with pytest.raises(KeyError):
        filled_in("${HOME}")


@pytest.mark.parametrize("name", KINDS)
@pytest.mark.parametrize("in_container", [True, False])
def test_no_secret_stands_in_the_command_or_the_environment(name, in_container):
    kind = agent_kind(name)
    where = place(kind, in_container)
    content = b"".join(kind.config_files(settings_for(kind), where).values())
    assert b"canary-provider-key" in content
    assert "canary" not in " ".join([*kind.argv(where), *kind.env(where), *kind.env(where).values()])


@pytest.mark.parametrize("name", KINDS)
def test_e5_no_setting_becomes_an_environment_variable(name):
    kind = agent_kind(name)
    for name in kind.env(place(kind)):
        assert re.fullmatch(r"[A-Z][A-Z0-9_]{0,63}", name)
        assert name not in {"PATH", "LD_PRELOAD", "LD_LIBRARY_PATH", "PYTHONPATH", "NODE_OPTIONS"}
    for variable in ("A=B", "LD_PRELOAD", "PATH", "X\nY"):
        with pytest.raises(InvalidField):
            kind.check_extra({"env": {variable: "1"}})


@pytest.mark.parametrize("name", KINDS)
def test_a_kind_is_consistent(name):
    kind = agent_kind(name)
    assert kind.name == name
    assert kinds()[name] is kind
    assert kind.min_memory_mb > 0 and kind.start_grace_s > 0
    assert {kind.health_path, kind.metrics_path, "/v1/chat/completions", "/metrics"}.isdisjoint(kind.public_paths)


def test_what_is_public_is_only_what_carries_no_operator_token():
    assert {name: kind.public_paths for name, kind in kinds().items()} == {
        "demo": ("/ws", "/webhook"),
        "zeroclaw": ("/whatsapp",),
        "openclaw": (),
        "nanobot": (),
    }


def test_an_unknown_kind_is_refused():
    with pytest.raises(InvalidField) as refused:
        agent_kind("skynet")
    assert refused.value.type == "unknown_agent"


@pytest.mark.parametrize("name", ["zeroclaw", "openclaw", "nanobot"])
def test_an_agent_that_needs_a_model_says_so(name):
    kind = agent_kind(name)
    with pytest.raises(RunFailed) as failed:
        kind.config_files(settings_for(kind, model=None), place(kind))
    assert failed.value.type == "bad_config"


def test_zeroclaw_refuses_a_channel_id_that_is_no_alias():
    kind = agent_kind("zeroclaw")
    with pytest.raises(ValueError, match="alias"):
        kind.config_files(settings_for(kind, channels=(channel("irc", "-x"),)), place(kind))


def test_openclaw_refuses_nobody_by_an_empty_list():
    kind = agent_kind("openclaw")
    policies = {
        who: read(kind, settings_for(kind, channels=(channel("telegram", allow_from=list(who)),)))["channels"][
            "telegram"
        ]
        for who in ((), ("7",), ("*",))
    }
    assert [policy["dmPolicy"] for policy in policies.values()] == ["disabled", "allowlist", "open"]


def test_openclaw_takes_two_channels_of_a_kind_as_accounts():
    kind = agent_kind("openclaw")
    config = read(kind, settings_for(kind, channels=(channel("telegram", 1), channel("telegram", 2))))
    assert config["channels"]["telegram"]["accounts"].keys() == {"c1", "c2"}


def test_openclaw_stays_on_the_loopback_outside_a_container():
    kind = agent_kind("openclaw")
    (content,) = kind.config_files(settings_for(kind), place(kind, in_container=False)).values()
    assert json.loads(content)["gateway"]["bind"] == "loopback"


def test_a_cleared_field_is_left_out():
    kind = agent_kind("zeroclaw")
    config = read(kind, settings_for(kind, channels=(channel("irc", channels=None, allow_from=None),)))
    assert "channels" not in config["channels"]["irc"]["c1"]
    assert config["peer_groups"]["c1"]["external_peers"] == []


@pytest.mark.parametrize(
    ("name", "status", "body", "healthy"),
    [
        ("demo", 200, b"{}", True),
        ("demo", 503, b"{}", False),
        ("openclaw", 200, b"", True),
        ("nanobot", 500, b"", False),
        ("zeroclaw", 200, b'{"status":"ok","runtime":{"components":{"gateway":{"status":"ok"}}}}', True),
        ("zeroclaw", 200, b'{"status":"ok","runtime":{"components":{"gateway":{"status":"error"}}}}', False),
        (
            "zeroclaw",
            200,
            b'{"runtime":{"components":{"gateway":{"status":"ok"},"channels":{"status":"error"}}}}',
            True,
        ),
        ("zeroclaw", 503, b'{"status":"ok","runtime":{"components":{"gateway":{"status":"ok"}}}}', False),
        ("zeroclaw", 200, b"<html>", False),
        ("zeroclaw", 200, b'{"status":"ok"}', False),
        ("zeroclaw", 200, b'{"runtime":{"components":[1]}}', False),
    ],
)
def test_health_is_judged_by_what_the_kind_answers(name, status, body, healthy):
    assert agent_kind(name).healthy(status, body) is healthy


def test_nanobot_is_told_of_the_proxy_in_its_file_too():
    """For a model in a private network it ignores the environment's."""
    kind = agent_kind("nanobot")
    told = settings_for(kind, proxy="http://gateway.internal:3128")
    config = json.loads(kind.config_files(told, place(kind))["config.json"])
    assert config["providers"]["custom"]["proxy"] == "http://gateway.internal:3128"
    assert (
        "proxy"
        not in json.loads(kind.config_files(settings_for(kind), place(kind))["config.json"])["providers"]["custom"]
    )
