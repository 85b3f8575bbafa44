"""E4: what ``extra_config`` may hold."""

import pytest

from tenants.agents import agent_kind, extra
from tests.tenants.agents.test_rendering import EXTRA, KINDS
from zcplatform.lib.errors import InvalidField


def nested(levels):
    value = {}
    for _ in range(levels):
        value = {"a": value}
    return value


@pytest.mark.parametrize("name", KINDS)
def test_what_a_kind_knows_is_accepted(name):
    assert agent_kind(name).check_extra(EXTRA[name]) == EXTRA[name]
    assert agent_kind(name).check_extra({}) == {}


@pytest.mark.parametrize("name", KINDS)
@pytest.mark.parametrize("key", ["unknown", "__proto__", "constructor", "", "gateway", "\ud800"])
def test_e4_an_unknown_key_is_refused(name, key):
    with pytest.raises(InvalidField) as refused:
        agent_kind(name).check_extra({key: 1})
    refused.value.details["field"].encode()


@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf")])
@pytest.mark.parametrize("name", KINDS)
def test_e4_a_number_that_is_none_is_refused(name, value):
    with pytest.raises(InvalidField):
        agent_kind(name).check_extra({"temperature": value})


def test_e4_depth_is_at_most_eight():
    extra.check_bounds(nested(8))
    with pytest.raises(InvalidField):
        extra.check_bounds(nested(9))
    with pytest.raises(InvalidField):
        extra.check_bounds(nested(10_000))


def test_e4_size_is_at_most_32_kb():
    extra.check_bounds({"a": "x" * 32_000})
    with pytest.raises(InvalidField):
        extra.check_bounds({"a": "x" * 33_000})
    with pytest.raises(InvalidField):
        extra.parse('{"a": "' + "x" * 33_000 + '"}')


@pytest.mark.parametrize(
    "text",
    [
        '{"a": 1, "a": 2}',
        '{"a": {"b": 1, "b": 1}}',
        '{"a": NaN}',
        '{"a": 1e999}',
        '{"a": -Infinity}',
        "[1]",
        '"x"',
        "{",
        "[" * 30_000,
        '{"a":' * 5_000,
    ],
)
def test_e4_a_json_text_that_says_two_things_or_none_is_refused(text):
    with pytest.raises(InvalidField):
        extra.parse(text)


def test_a_json_text_is_parsed():
    assert extra.parse('{"a": [1, 2.5, null, true, "x"]}') == {"a": [1, 2.5, None, True, "x"]}


@pytest.mark.parametrize("value", [{1: 2}, {"a": {1: 2}}, {"a": b"x"}, {"a": {1, 2}}, [1], None])
def test_what_json_can_not_say_is_refused(value):
    with pytest.raises(InvalidField):
        extra.check_bounds(value)


@pytest.mark.parametrize(
    "value",
    [{"faults": 1}, {"faults": {"explode": True}}, {"faults": {"exit_code": 300}}, {"faults": {"hang": "yes"}}],
)
def test_faults_of_the_demo_agent_are_checked(value):
    with pytest.raises(InvalidField):
        agent_kind("demo").check_extra(value)
