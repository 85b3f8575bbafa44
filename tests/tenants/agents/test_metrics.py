import pytest

from tenants.agents import agent_kind
from tenants.agents.base import Counters

DOCUMENTS = """\
# HELP zeroclaw_messages_total Messages
# TYPE zeroclaw_messages_total counter
zeroclaw_messages_total{channel="telegram",direction="in"} 3
zeroclaw_messages_total{channel="discord",direction="in"} 4
zeroclaw_messages_total{channel="telegram",direction="out"} 5
# TYPE zeroclaw_tokens_total counter
zeroclaw_tokens_total{direction="input",model="a"} 100
zeroclaw_tokens_total{direction="input",model="b"} 1
zeroclaw_tokens_total{direction="output",model="a"} 50
"""
ZEROCLAW = """\
# TYPE zeroclaw_channel_messages_total counter
zeroclaw_channel_messages_total{channel="telegram",direction="inbound"} 7
zeroclaw_channel_messages_total{channel="irc",direction="inbound"} 1
zeroclaw_channel_messages_total{channel="telegram",direction="outbound"} 6
# TYPE zeroclaw_tokens_input_total counter
zeroclaw_tokens_input_total{model_provider="custom.main",model="m"} 1.2e3
# TYPE zeroclaw_tokens_output_total counter
zeroclaw_tokens_output_total{model_provider="custom.main",model="m"} 30
zeroclaw_active_sessions 2
"""


def counters(text):
    return agent_kind("zeroclaw").counters(text)


def test_the_documents_family_is_summed_over_labels():
    assert counters(DOCUMENTS) == Counters(7, 5, 101, 50)


def test_zeroclaws_own_family_is_summed_over_labels():
    assert counters(ZEROCLAW) == Counters(8, 6, 1200, 30)


def test_an_agent_that_serves_both_families_is_counted_once():
    assert counters(DOCUMENTS + ZEROCLAW) == counters(ZEROCLAW)


def test_messages_without_a_direction_count_as_received():
    assert counters("zeroclaw_messages_total 3\n") == Counters(messages_in=3)


@pytest.mark.parametrize(
    "text", ["", "# prometheus is off\n", "other_total 3\n", "not { a metric\n", "\x00", "a b c d\n"]
)
def test_no_sample_is_no_data_and_not_zero(text):
    assert counters(text) == Counters(None, None, None, None)


def test_zero_is_zero():
    assert counters('zeroclaw_tokens_total{direction="input"} 0\n').tokens_in == 0


@pytest.mark.parametrize("value", ["NaN", "+Inf", "-3"])
def test_a_count_that_can_not_be_one_is_no_data(value):
    assert counters(f'zeroclaw_tokens_total{{direction="input"}} {value}\n').tokens_in is None


@pytest.mark.parametrize("name", ["openclaw", "nanobot"])
def test_a_kind_without_metrics_has_no_data(name):
    assert agent_kind(name).metrics_path is None
    assert agent_kind(name).counters(DOCUMENTS) == Counters()
