"""What a chat request may hold."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tenants.door_chat import FIELDS, MAX_TOKENS, MESSAGE_FIELDS, parse
from zcplatform.lib.errors import InvalidField, RequestError

HELLO = [{"role": "user", "content": "hello"}]


def check(**fields):
    return parse(json.dumps({"messages": HELLO, **fields}).encode())


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"{",
        b"\xff",
        b"nul",
        b'{"messages": NaN}',
        b'{"temperature": Infinity}',
        b'{"tools": [1e999]}',
        b"[" * 100_000,
        b"\x1f\x8b\x08",
    ],
)
def test_what_is_not_json_is_400(content):
    with pytest.raises(RequestError) as refusal:
        parse(content)
    assert (refusal.value.status, refusal.value.type) == (400, "bad_json")


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("messages", None), ("messages", []), ("messages", "hello"), ("messages", ["hello"]),
        ("messages", HELLO * 1_001), ("messages", [{"role": "root", "content": "x"}]),
        ("messages", [{"role": ["user"], "content": "x"}]), ("messages", [{"content": "x"}]),
        ("messages", [{"role": "user"}]), ("messages", [{"role": "user", "content": 7}]),
        ("messages", [{"role": "user", "content": ["x"]}]), ("n", 100), ("n", 0), ("n", True), ("n", "1"),
        ("max_tokens", 0), ("max_tokens", -1), ("max_tokens", 1.5), ("max_tokens", True),
        ("max_completion_tokens", -1), ("stream", "yes"), ("stream", 1), ("temperature", 3),
        ("temperature", "hot"), ("temperature", True), ("top_p", -1), ("model", 7), ("model", "m" * 201),
        ("stop", ["a"] * 5), ("stop", [7]), ("stop", 7), ("tools", {}), ("seed", 2**70), ("tool_choice", 7),
        ("response_format", []), ("stream_options", []), ("user", {}),
    ],
)  # fmt: skip
def test_l11_a_wrong_shape_is_422_and_names_the_field(field, value):
    with pytest.raises(InvalidField) as refusal:
        check(**{field: value})
    assert refusal.value.details["field"].startswith(field)


@pytest.mark.parametrize("body", [b"[]", b"7", b'"x"', b"{}", b'{"model": "x"}'])
def test_messages_are_needed(body):
    with pytest.raises(InvalidField):
        parse(body)


def test_l11_a_huge_max_tokens_is_clamped():
    assert check(max_tokens=10**9)["max_tokens"] == MAX_TOKENS
    assert check(max_tokens=5, max_completion_tokens=10**30)["max_completion_tokens"] == MAX_TOKENS


def test_a_whole_number_may_be_written_with_a_fraction_of_nothing():
    assert check(max_tokens=1000.0, seed=-3.0) == {"messages": HELLO, "max_tokens": 1000, "seed": -3}
    assert [type(value) for value in check(max_tokens=1e300, n=1.0).values()] == [list, int, int]


def test_a_byte_order_mark_is_no_part_of_the_text():
    assert parse(b"\xef\xbb\xbf" + json.dumps({"messages": HELLO}).encode()) == {"messages": HELLO}
    with pytest.raises(RequestError):
        parse(b"\xef\xbb\xbf\xef\xbb\xbf{}")


def test_l12_only_fields_of_the_list_get_through():
    hostile = dict.fromkeys(("api_base", "api_key", "base_url", "extra_headers", "user_config", "litellm[x]"), "x")
    message = {"role": "user", "content": "hello", "api_base": "x"}
    assert parse(json.dumps({"messages": [message], **hostile}).encode()) == {"messages": HELLO}


def test_null_is_the_same_as_absent():
    assert check(temperature=None, tools=None) == {"messages": HELLO}


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.text(),
        lambda x: st.lists(x) | st.dictionaries(st.sampled_from([*FIELDS, "x"]), x),
    )
)
def test_any_json_is_accepted_clean_or_refused(value):
    try:
        body = parse(json.dumps(value).encode())
    except RequestError:
        return
    assert set(body) <= set(FIELDS)
    assert all(set(message) <= set(MESSAGE_FIELDS) for message in body["messages"])
