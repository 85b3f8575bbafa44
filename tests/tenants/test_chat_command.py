"""``chat`` through the real door under uvicorn, with an agent of the test's own behind it."""

from __future__ import annotations

import json

import pytest

from tenants import secrets
from tenants.models import AccessToken
from tenants.states import Status
from tenants.tokens import live
from tests.commands import manage
from tests.factories import TenantFactory
from tests.serving import answer, read_body, serving
from zcplatform.asgi import application
from zcplatform.lib.actors import SYSTEM
from zcplatform.lib.redact import SecretStr

pytestmark = pytest.mark.django_db(transaction=True)


class Agent:
    """Echoes the last message, whole or word by word."""

    def __init__(self):
        self.status = 200

    async def __call__(self, scope, receive, send):
        asked = json.loads(await read_body(receive))
        text = asked["messages"][-1]["content"]
        if asked.get("stream"):
            chunks = [{"choices": [{"delta": {"content": f"{word} "}}]} for word in ("you", "said", text)]
            events = [f"data: {json.dumps(chunk)}\n\n" for chunk in [*chunks, {"choices": []}]]
            return await answer(send, 200, "".join([*events, "data: [DONE]\n\n"]).encode())
        reply = {"choices": [{"index": 0, "message": {"content": f"you said {text}"}}]}
        return await answer(send, self.status, json.dumps(reply).encode())


@pytest.fixture(scope="module")
def servers():
    agent = Agent()
    with serving(agent) as agent.port, serving(application, lifespan="on") as door:
        yield agent, door


@pytest.fixture
def agent(servers, settings, vault_key):
    agent, door = servers
    settings.ROUTER, settings.BIND, settings.PORT = "direct", "127.0.0.1", door
    tenant = TenantFactory(slug="acme", port=agent.port, routed=True, status=Status.RUNNING)
    secrets.put(tenant, "agent_token", SecretStr("a-made-up-agent-secret"), actor=SYSTEM)
    agent.status = 200
    return agent


def test_chat_prints_the_answer_and_leaves_no_token(agent):
    done = manage("chat", "acme", "Grüezi")
    assert (done.code, done.out) == (0, "you said Grüezi\n")
    assert not live().exists()
    assert AccessToken.objects.get().name == "chat command"


def test_chat_streams_and_prints_json(agent):
    assert manage("chat", "--stream", "acme", "hello").out == "you said hello \n"
    assert manage("chat", "--json", "acme", "hello").json["choices"][0]["message"]["content"] == "you said hello"
    done = manage("chat", "--json", "--stream", "acme", "hello")
    assert (done.code, done.err) == (2, "--stream prints text as it comes; use it without --json.")


def test_chat_tells_what_the_door_refused(agent):
    agent.status = 500
    done = manage("chat", "acme", "hello")
    assert done.code == 1
    assert done.err == "The agent did not answer as it should."
    assert not live().exists()
    assert AccessToken.objects.get().name == "chat command"


def test_chat_where_nobody_listens(agent, settings):
    settings.PORT = 9
    done = manage("chat", "acme", "hello")
    assert (done.code, done.err) == (1, "The tenant's address does not answer: ConnectError.")
    assert not live().exists()
    assert AccessToken.objects.get().name == "chat command"
