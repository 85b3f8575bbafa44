"""The OpenAI chat form, which the platform speaks at its door and most agents understand themselves."""

from __future__ import annotations

import json
import secrets
import time
from collections.abc import AsyncIterator, Mapping
from typing import Any

from tenants.agents.base import ChatCall
from zcplatform.lib.errors import BadUpstream, InvalidField
from zcplatform.lib.redact import SecretStr

PATH = "/v1/chat/completions"
# What is passed on. Everything else stays behind: an agent could take api_base, extra_headers and the like for orders.
FORWARDED = frozenset(
    {"messages", "stream", "stream_options", "temperature", "top_p", "max_tokens", "max_completion_tokens", "stop"}
    | {"seed", "tools", "tool_choice", "response_format", "presence_penalty", "frequency_penalty", "user"}
)
DONE = b"data: [DONE]\n\n"


class OpenAIChat:
    """The chat part of an ``AgentKind`` that serves ``/v1/chat/completions`` itself, under the name ``chat_model``."""

    chat_model: str

    def chat_call(self, body: Mapping[str, Any], token: SecretStr) -> ChatCall:
        last_user_text(body)
        forwarded = {key: value for key, value in body.items() if key in FORWARDED}
        return ChatCall(PATH, bearer(token), {**forwarded, "model": self.chat_model})

    def chat_reply(self, body: Mapping[str, Any], answer: bytes) -> dict[str, Any]:
        reply = parse_object(answer)
        if not isinstance(reply.get("choices"), list) or not reply["choices"]:
            raise BadUpstream("The agent's answer makes no sense.")
        return reply

    async def chat_stream(self, body: Mapping[str, Any], chunks: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
        """The agent's events as they come. One that ends early ends here with an event of the error."""
        tail = b""
        async for chunk in chunks:
            tail = (tail + chunk)[-64:]
            yield chunk
        if not tail.rstrip().endswith(DONE.rstrip()):
            yield b"\n\n" if tail and not tail.endswith(b"\n\n") else b""
            yield event({"error": {"type": "bad_upstream", "message": "The agent's answer ended early."}})
            yield DONE


def bearer(token: SecretStr) -> dict[str, str]:
    return {"Authorization": f"Bearer {token.reveal()}", "Content-Type": "application/json"}


def parse_object(answer: bytes) -> dict[str, Any]:
    """An agent's answer as a JSON object; BadUpstream when it is none."""
    try:
        value = json.loads(answer)
    except (ValueError, RecursionError):
        value = None
    if not isinstance(value, dict):
        raise BadUpstream("The agent's answer makes no sense.")
    return value


def last_user_text(body: Mapping[str, Any]) -> str:
    """What the user said last, without pictures and the like; InvalidField when ``messages`` holds nothing of that."""
    messages = body.get("messages")
    for message in reversed(messages if isinstance(messages, list) else []):
        if isinstance(message, dict) and message.get("role") == "user":
            return _text(message.get("content"))
    raise InvalidField("messages must hold a message of the user.", field="messages")


def _text(content: Any) -> str:
    if isinstance(content, str):
        return content
    parts = content if isinstance(content, list) else []
    return " ".join(part["text"] for part in parts if isinstance(part, dict) and isinstance(part.get("text"), str))


def completion(model: str, text: str) -> dict[str, Any]:
    """A whole ``chat.completion`` of an agent that does not speak this form and tells no usage."""
    message = {"role": "assistant", "content": text}
    return {**_frame("chat.completion", model), "choices": [{"index": 0, "message": message, "finish_reason": "stop"}]}


def completion_event(model: str, text: str) -> bytes:
    """The same as the only chunk of a stream."""
    delta = {"role": "assistant", "content": text}
    choices = [{"index": 0, "delta": delta, "finish_reason": "stop"}]
    return event({**_frame("chat.completion.chunk", model), "choices": choices})


def event(value: Mapping[str, Any]) -> bytes:
    return b"data: " + json.dumps(value).encode() + b"\n\n"


def _frame(kind: str, model: str) -> dict[str, Any]:
    return {"id": f"chatcmpl-{secrets.token_hex(8)}", "object": kind, "created": int(time.time()), "model": model}
