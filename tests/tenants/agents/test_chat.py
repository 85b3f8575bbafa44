"""The chat adapters: an OpenAI request in, the agent's own out, and back."""

import asyncio
import json

import pytest

from tenants.agents import agent_kind
from zcplatform.lib.errors import BadUpstream, InvalidField
from zcplatform.lib.redact import SecretStr

TOKEN = SecretStr("canary-agent-token")
BODY = {
    "model": "whatever",
    "messages": [
        {"role": "system", "content": "be brief"},
        {"role": "user", "content": "first"},
        {"role": "assistant", "content": "yes?"},
        {"role": "user", "content": [{"type": "text", "text": "second"}, {"type": "image_url"}]},
    ],
    "temperature": 0.5,
    "user": "ada",
    "api_base": "http://169.254.169.254",
    "extra_headers": {"X-Admin": "1"},
}
KINDS = ("demo", "zeroclaw", "openclaw", "nanobot")
OPENAI = ("demo", "openclaw", "nanobot")


def stream(kind, *chunks, body=BODY):
    async def source():
        for chunk in chunks:
            yield chunk

    async def collect():
        return b"".join([part async for part in kind.chat_stream(body, source())])

    return asyncio.run(collect())


@pytest.mark.parametrize("name", KINDS)
def test_the_agents_token_goes_into_the_header_alone(name):
    call = agent_kind(name).chat_call(BODY, TOKEN)
    assert call.headers["Authorization"] == "Bearer canary-agent-token"
    assert "canary" not in json.dumps(call.body) + call.path


@pytest.mark.parametrize("name", KINDS)
def test_l12_what_could_redirect_the_agent_is_left_behind(name):
    assert {"api_base", "extra_headers"}.isdisjoint(agent_kind(name).chat_call(BODY, TOKEN).body)


def test_an_openai_agent_gets_the_conversation_under_its_own_model_name():
    call = agent_kind("openclaw").chat_call(BODY, TOKEN)
    assert call.path == "/v1/chat/completions"
    assert call.body["messages"] == BODY["messages"]
    assert (call.body["model"], call.body["temperature"]) == ("openclaw", 0.5)


def test_nanobot_gets_one_message_and_a_session():
    call = agent_kind("nanobot").chat_call(BODY, TOKEN)
    assert call.body == {
        "messages": [{"role": "user", "content": "second"}],
        "stream": False,
        "session_id": "ada",
    }
    with pytest.raises(InvalidField):
        agent_kind("nanobot").chat_call({**BODY, "user": "x" * 101}, TOKEN)


def test_zeroclaw_gets_what_the_user_said_last():
    call = agent_kind("zeroclaw").chat_call(BODY, TOKEN)
    assert (call.path, call.body) == ("/webhook?agent=main", {"message": "second"})


@pytest.mark.parametrize("name", KINDS)
@pytest.mark.parametrize("messages", [None, [], "x", [{"role": "system", "content": "x"}], [1], {}])
def test_a_request_without_a_users_message_is_refused(name, messages):
    with pytest.raises(InvalidField) as refused:
        agent_kind(name).chat_call({"messages": messages}, TOKEN)
    assert refused.value.details["field"] == "messages"


def test_zeroclaws_answer_becomes_a_completion():
    reply = agent_kind("zeroclaw").chat_reply(BODY, b'{"response": "hello", "model": "m"}')
    assert reply["object"] == "chat.completion"
    assert reply["model"] == "m"
    assert reply["choices"][0]["message"] == {"role": "assistant", "content": "hello"}


def test_zeroclaws_answer_becomes_a_stream_of_one_chunk():
    lines = stream(agent_kind("zeroclaw"), b'{"response": ', b'"hello"}').decode().split("\n\n")
    chunk = json.loads(lines[0].removeprefix("data: "))
    assert chunk["object"] == "chat.completion.chunk"
    assert chunk["choices"][0]["delta"]["content"] == "hello"
    assert lines[1:] == ["data: [DONE]", ""]


@pytest.mark.parametrize("name", KINDS)
@pytest.mark.parametrize(
    "answer", [b"", b"<html>", b"[1]", b"{}", b'{"response": 3}', b'{"choices": []}', b"[" * 99_999]
)
def test_an_answer_that_makes_no_sense_is_bad_upstream(name, answer):
    with pytest.raises(BadUpstream):
        agent_kind(name).chat_reply(BODY, answer)


def test_a_stream_of_zeroclaw_that_makes_no_sense_is_bad_upstream():
    with pytest.raises(BadUpstream):
        stream(agent_kind("zeroclaw"), b"oops")
    with pytest.raises(BadUpstream):
        stream(agent_kind("zeroclaw"), b"x" * 6_000_000, b"x" * 6_000_000)


@pytest.mark.parametrize("name", OPENAI)
def test_a_stream_passes_as_it_comes(name):
    parts = [b'data: {"a": ', b"1}\n\nda", b"ta: [DO", b"NE]\n\n"]
    assert stream(agent_kind(name), *parts) == b'data: {"a": 1}\n\ndata: [DONE]\n\n'


@pytest.mark.parametrize("name", OPENAI)
@pytest.mark.parametrize("parts", [[], [b'data: {"a": 1}\n\n'], [b'data: {"a"']])
def test_a_stream_that_ends_early_says_so(name, parts):
    events = stream(agent_kind(name), *parts).decode().split("\n\n")
    assert json.loads(events[-3].removeprefix("data: "))["error"]["type"] == "bad_upstream"
    assert events[-2:] == ["data: [DONE]", ""]
