"""The chat door: the real ASGI application under uvicorn, in front of a real upstream of the test's own."""

import asyncio
import http.client
import json
import logging
import socket
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta

import httpx
import pytest
from django.db import OperationalError
from websockets.exceptions import InvalidStatus
from websockets.sync.client import connect

from audit.models import AuditEntry
from tenants import door as door_module
from tenants import door_access, door_http, door_pace, door_upstream, routes, secrets, tokens, usage
from tenants.models import AccessToken, Tenant
from tenants.records import UsageHour
from tenants.routing import router
from tenants.states import Status
from tests.caddy import free_port
from tests.factories import TenantFactory
from tests.serving import answer, read_body, serving
from tests.tenants.runtimes.contract import until
from zcplatform.asgi import application
from zcplatform.lib import arriving, clock
from zcplatform.lib.actors import SYSTEM
from zcplatform.lib.errors import Overloaded
from zcplatform.lib.redact import SecretStr
from zcplatform.lib.request_ids import bound_client_request_id

pytestmark = pytest.mark.django_db(transaction=True)

CHAT = "/v1/chat/completions"
HELLO = {"messages": [{"role": "user", "content": "hello"}]}
REPLY = {"id": "c1", "object": "chat.completion", "choices": [{"index": 0, "message": {"content": "hi"}}]}
AGENT_SECRET = "the-agent-side-secret-of-this-test"
CHUNK = b'data: {"choices": []}\n\n'
DONE = b"data: [DONE]\n\n"


class FakeAgent:
    """Answers as it is told to, and remembers what it was asked. ``go`` holds a stream back until it is set."""

    def __init__(self):
        self.reset()

    def reset(self):
        self.asked = []
        self.go, self.left = threading.Event(), threading.Event()
        self.act = self.reply
        self.status, self.headers, self.content = 200, [], json.dumps(REPLY).encode()

    async def __call__(self, scope, receive, send):
        headers = [(name.decode(), value.decode()) for name, value in scope["headers"]]
        body = await read_body(receive)
        asked = {"method": scope["method"], "path": scope["raw_path"].decode(), "query": scope["query_string"].decode()}
        self.asked.append({**asked, "headers": headers, "body": body})
        await self.act(receive, send)

    async def reply(self, receive, send):
        await answer(send, self.status, self.content, *self.headers)

    async def stream(self, receive, send):
        """One event, then the rest once ``go`` is set."""
        await self._begin(send)
        await self._wait()
        await send({"type": "http.response.body", "body": CHUNK + DONE})

    async def break_off(self, receive, send):
        await self._begin(send)
        raise RuntimeError("the agent of this test breaks off")

    async def wait_for_hang_up(self, receive, send):
        """Begin to stream (or not at all) and tell when the door goes away."""
        if self.content:
            await self._begin(send)
        while (await receive())["type"] != "http.disconnect":
            pass
        self.left.set()

    async def _begin(self, send):
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": CHUNK, "more_body": True})

    async def _wait(self):
        import asyncio

        while not self.go.is_set():
            await asyncio.sleep(0.01)


@pytest.fixture(autouse=True)
def domain(settings):
    settings.DOMAIN, settings.PUBLIC_HOST, settings.ROUTER = "localhost", "localhost", "caddy"
    settings.ALLOWED_HOSTS = ["localhost", "api.localhost", "127.0.0.1"]


@pytest.fixture(scope="module")
def servers():
    """The door and one agent, for all tests of this module: both keep nothing from one to the next."""
    fake = FakeAgent()
    with serving(fake) as fake.port, serving(application, lifespan="on") as port:
        yield Client(port), fake


@pytest.fixture
def agent(servers):
    servers[1].reset()
    yield servers[1]
    servers[1].go.set()


@pytest.fixture
def acme(agent, vault_key):
    tenant = TenantFactory(slug="acme", port=agent.port, routed=True, status=Status.RUNNING)
    secrets.put(tenant, "agent_token", SecretStr(AGENT_SECRET), actor=SYSTEM)
    return tenant


@pytest.fixture
def token(acme):
    return tokens.mint(acme, "test", created_by="")[1].reveal()


@pytest.fixture
def door(servers):
    return servers[0]


class Client:
    """Speaks to the door by address, with the tenant's name as the host."""

    def __init__(self, port):
        self.port = port

    def chat(self, token="", body=HELLO, *, host="acme.localhost", path=CHAT, **more):
        headers = {"Host": host, **({"Authorization": f"Bearer {token}"} if token else {}), **more.pop("headers", {})}
        content = {"content": body} if isinstance(body, bytes) else {"json": body}
        return self.request("POST", path, headers=headers, **content, **more)

    def request(self, method, path, **more):
        return httpx.request(method, f"http://127.0.0.1:{self.port}{path}", timeout=20, **more)

    def open_stream(self, token):
        """A connection with a stream of which the first event has come."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=20)
        headers = {"Host": "acme.localhost", "Authorization": f"Bearer {token}"}
        connection.request("POST", CHAT, json.dumps({**HELLO, "stream": True}), headers)
        response = connection.getresponse()
        return connection, response, response.readline() + response.readline()


def error_of(response):
    body = response.json()["error"]
    assert set(body) == {"type", "message", "details", "request_id"}
    assert body["request_id"] == response.headers["x-request-id"]
    for hidden in ("127.0.0.1", AGENT_SECRET, "Traceback"):
        assert hidden not in response.text
    return response.status_code, body["type"]


class TestChat:
    def test_a_whole_answer(self, door, agent, token):
        response = door.chat(token)
        assert (response.status_code, response.json()) == (200, REPLY)
        assert response.headers["cache-control"] == "no-store"

    def test_a_stream_arrives_as_it_comes(self, door, agent, token):
        agent.act = agent.stream
        connection, response, first = door.open_stream(token)
        assert first == CHUNK
        assert response.headers["content-type"].startswith("text/event-stream")
        agent.go.set()
        assert response.read() == CHUNK + DONE
        connection.close()

    def test_one_chat_more_than_the_database_keeps_up_with_is_told_to_come_back(self, door, agent, token, monkeypatch):
        monkeypatch.setattr(door_access, "MAX_WAITING", 0)
        response = door.chat(token)
        assert (response.status_code, response.json()["error"]["type"]) == (503, "overloaded")
        assert response.headers["retry-after"] == "2" and not agent.asked
        monkeypatch.setattr(door_access, "MAX_WAITING", 1)
        assert [door.chat(token).status_code for _ in range(3)] == [200, 200, 200]  # nothing counts that has ended

    def test_one_network_leaves_half_of_the_database_s_line_to_everybody_else(self, monkeypatch):
        monkeypatch.setattr(door_access, "_with_connection", lambda query: query())
        go = threading.Event()

        async def scenario():
            floods = [
                asyncio.ensure_future(door_access.in_database(lambda: go.wait(20), caller="203.0.113.7"))
                for _ in range(door_access.MAX_WAITING_EACH)
            ]
            await asyncio.sleep(0)
            with pytest.raises(Overloaded):
                await door_access.in_database(lambda: 1, caller="203.0.113.7")
            other = asyncio.ensure_future(door_access.in_database(lambda: 1, caller="203.0.113.8"))
            await asyncio.sleep(0)
            go.set()
            assert await other == 1
            await asyncio.gather(*floods)

        asyncio.run(scenario())
        assert not door_access._asked

    @pytest.mark.parametrize("kind", ["openclaw", "nanobot"])
    def test_messages_of_an_agent_that_counts_nothing_are_counted_here(self, door, agent, acme, token, kind):
        Tenant.objects.filter(pk=acme.pk).update(agent_kind=kind)
        door.chat(token)
        agent.act = agent.stream
        agent.go.set()
        door.chat(token, {**HELLO, "stream": True})
        counts = UsageHour.objects.filter(tenant=acme).values_list("messages_in", "messages_out", "tokens_in")
        until(lambda: list(counts.all()) == [(2, 2, None)])

    def test_a_message_that_reached_no_agent_is_not_counted_and_one_without_an_answer_is(
        self, door, agent, acme, token
    ):
        Tenant.objects.filter(pk=acme.pk).update(agent_kind="openclaw")
        agent.status = 503
        door.chat(token)
        assert not UsageHour.objects.exists()
        agent.status, agent.content = 200, b"no json"
        assert door.chat(token).status_code == 502
        counts = UsageHour.objects.values_list("messages_in", "messages_out")
        until(lambda: list(counts.all()) == [(1, None)])  # an error waits for no counting

    def test_those_of_an_agent_that_counts_itself_are_counted_here_too_and_known_to_be(self, door, agent, acme, token):
        """By which the sweep tells them from what came by a channel."""
        door.chat(token)
        assert UsageHour.objects.values_list("messages_in", "messages_out", "tokens_in").get() == (1, 1, None)
        assert usage.passed([acme.pk])[acme.pk]["messages_in"] == 1

    def test_a_chat_goes_on_when_it_cannot_be_counted(self, door, agent, acme, token, monkeypatch):
        Tenant.objects.filter(pk=acme.pk).update(agent_kind="openclaw")

        def locked(*_args, **_counts):
            raise OperationalError("database is locked")

        monkeypatch.setattr(usage, "add_passed", locked)
        assert door.chat(token).status_code == 200

    def test_l13_the_agent_gets_its_own_secret_and_no_header_of_the_client(self, door, agent, token):
        door.chat(token, headers={"X-Evil": "1", "Cookie": "a=b", "X-Forwarded-For": "6.6.6.6", "X-Request-ID": "mine"})
        headers = dict(agent.asked[0]["headers"])
        assert headers["authorization"] == f"Bearer {AGENT_SECRET}"
        assert headers["host"] == f"127.0.0.1:{agent.port}"
        assert token not in json.dumps(headers)
        for name in ("x-evil", "cookie", "x-forwarded-for", "x-request-id"):
            assert name not in headers

    def test_l12_only_listed_fields_reach_the_agent(self, door, agent, token):
        door.chat(token, {**HELLO, "api_base": "http://evil.test", "temperature": 0.5})
        sent = json.loads(agent.asked[0]["body"])
        assert sent["temperature"] == 0.5
        assert "api_base" not in sent

    def test_the_request_id_is_made_here(self, door, token, agent):
        response = door.chat(token, headers={"X-Request-ID": "mine"})
        assert len(response.headers["x-request-id"]) == 32

    def test_the_callers_id_stands_beside_ours_while_the_door_answers(self, door, token, agent, monkeypatch):
        seen = []
        real = door_module.Door._serve

        async def looked_at(self, place, request, answer):
            seen.append((bound_client_request_id(), request.id))
            await real(self, place, request, answer)

        monkeypatch.setattr(door_module.Door, "_serve", looked_at)
        ours = [door.chat(token, headers={"X-Request-ID": given}).headers["x-request-id"] for given in ("mine", "a b")]
        assert seen == [("mine", ours[0]), ("", ours[1])]

    def test_every_agent_kind_is_found_by_its_own_port(self, door, agent, acme, token, vault_key):
        other = FakeAgent()
        other.content = json.dumps({**REPLY, "id": "other"}).encode()
        with serving(other) as port:
            beta = TenantFactory(slug="beta", port=port, routed=True, status=Status.RUNNING)
            secrets.put(beta, "agent_token", SecretStr("another-agent-secret"), actor=SYSTEM)
            theirs = tokens.mint(beta, "test", created_by="")[1].reveal()
            assert door.chat(theirs, host="beta.localhost").json()["id"] == "other"
            assert door.chat(token).json()["id"] == "c1"

    def test_a_cookie_of_one_agent_is_never_sent_to_another(self, door, agent, token):
        agent.headers = [(b"set-cookie", b"spy=1; Path=/")]
        assert "set-cookie" not in door.chat(token).headers
        door.chat(token)
        assert "cookie" not in dict(agent.asked[1]["headers"])

    def test_a_redirect_is_not_followed(self, door, agent, token):
        agent.status, agent.headers = 307, [(b"location", f"http://127.0.0.1:{agent.port}/x".encode())]
        assert error_of(door.chat(token)) == (502, "bad_upstream")
        assert [asked["path"] for asked in agent.asked] == [CHAT]


class TestPace:
    def test_an_answer_is_passed_on_no_faster_than_any_model_writes(self, monkeypatch):
        """Whatever the agent sends and the client reads; what came slowly so far saves nothing up."""
        now, rests = [0.0], []

        async def rest(seconds):
            rests.append(seconds)
            now[0] += seconds

        async def send(_message):
            pass

        async def told(answer, *sizes):
            rests.clear()
            for size in sizes:
                await answer.write(b"x" * size)
            return list(rests)

        async def scenario():
            answer = door_http.Answer(send, "r")
            assert await told(answer, door_pace.AT_ONCE) == []
            assert await told(answer, door_pace.PER_S, door_pace.PER_S // 2) == [1.0, 0.5]
            pieces = door_pace.PER_S // door_pace.SMALLEST
            assert sum(await told(answer, *[1] * pieces)) == pytest.approx(1.0, abs=0.01)
            now[0] += 3_600
            assert await told(answer, door_pace.AT_ONCE, door_pace.PER_S) == [1.0]
            await answer.write(b"x" * 3 * door_pace.PER_S, more=False)
            assert rests == [1.0]  # nothing comes after it

        monkeypatch.setattr(door_pace.time, "monotonic", lambda: now[0])
        monkeypatch.setattr(door_pace.asyncio, "sleep", rest)
        coroutine = scenario()
        with pytest.raises(StopIteration):
            coroutine.send(None)  # without a loop, which would ask the same clock


class TestHangingUp:
    @pytest.mark.parametrize("streaming", [True, False])
    def test_l8_the_agent_is_told_when_the_client_hangs_up(self, door, agent, token, streaming):
        agent.act, agent.content = agent.wait_for_hang_up, b"begin" if streaming else b""
        if streaming:
            connection, response, _ = door.open_stream(token)
            response.close()
            connection.close()
        else:
            with socket.create_connection(("127.0.0.1", door.port), timeout=20) as raw:
                raw.sendall(_raw(token, json.dumps(HELLO).encode()))
                while not agent.asked:
                    threading.Event().wait(0.01)
        assert agent.left.wait(20)

    def test_hanging_up_within_the_body_is_no_error(self, door, token, caplog):
        with caplog.at_level(logging.ERROR), socket.create_connection(("127.0.0.1", door.port), timeout=20) as raw:
            raw.sendall(_raw(token, b"{", length=100))
        assert door.chat(token).status_code == 200
        assert [record for record in caplog.records if record.levelno >= logging.ERROR] == []


def _raw(token, body, length=None, extra=b""):
    head = f"POST {CHAT} HTTP/1.1\r\nHost: acme.localhost\r\nAuthorization: Bearer {token}\r\n".encode()
    return head + extra + b"Content-Length: %d\r\n\r\n" % (len(body) if length is None else length) + body


class TestCredentials:
    def test_all_wrong_credentials_get_the_same_answer(self, door, agent, acme, token, vault_key):
        other = TenantFactory(slug="other", status=Status.RUNNING)
        expired = tokens.mint(acme, "old", created_by="", expires_at=clock.now() - timedelta(days=1))[1].reveal()
        row, revoked = tokens.mint(acme, "gone", created_by="")
        AccessToken.objects.filter(pk=row.pk).update(revoked_at=clock.now())
        cases = {
            "none": "",
            "unknown": "zct_" + "x" * 43,
            "B7 the stored hash": tokens.token_hash(token),
            "L15 another tenant's": tokens.mint(other, "theirs", created_by="")[1].reveal(),
            "expired": expired,
            "revoked": revoked.reveal(),
            "too long": "x" * 1_000,
        }
        answers = {}
        for name, value in cases.items():
            response = door.chat(value)
            assert response.headers["www-authenticate"] == "Bearer"
            error = response.json()["error"]
            answers[name] = (response.status_code, error["type"], error["message"], str(error["details"]))
        assert set(answers.values()) == {(401, "unauthenticated", door_http.NO_TOKEN, "{}")}
        assert agent.asked == []

    def test_l15_a_token_at_another_tenants_door_is_audited_once(self, door, acme):
        other = TenantFactory(slug="other", status=Status.RUNNING)
        theirs = tokens.mint(other, "theirs", created_by="")[1].reveal()
        for _ in range(3):
            assert door.chat(theirs).status_code == 401
        row = AuditEntry.objects.get(action="access.denied")
        assert (row.tenant_id, row.outcome) == (str(other.public_id), "denied")
        assert theirs not in row.detail_json + row.actor_email + row.actor_id

    def test_b9_two_credentials_are_400(self, door, token):
        raw = [("Host", "acme.localhost"), ("Authorization", f"Bearer {token}"), ("Authorization", "Bearer other")]
        response = door.request("POST", CHAT, headers=raw, json=HELLO)
        assert error_of(response) == (400, "two_credentials")

    @pytest.mark.parametrize("name", ["token", "access_token", "api_key", "Authorization"])
    def test_b6_a_token_in_the_address_is_refused(self, door, token, agent, name):
        assert error_of(door.chat(path=f"{CHAT}?{name}={token}")) == (400, "token_in_query")
        assert error_of(door.chat(token, path=f"{CHAT}?{name}={token}")) == (400, "token_in_query")
        assert agent.asked == []

    def test_other_schemes_are_refused(self, door, token):
        for value in (token, f"Basic {token}", "Bearer", f"Bearer  {token}"):
            assert door.chat(headers={"Authorization": value}).status_code == 401

    def test_l16_a_revoked_token_ends_at_once(self, door, acme, token):
        assert door.chat(token).status_code == 200
        tokens.revoke_all(acme)
        assert door.chat(token).status_code == 401

    def test_the_vault_is_read_once_for_many_chats_and_at_once_after_a_rotation(self, door, agent, acme, token):
        def reads():
            return AuditEntry.objects.filter(action="secret.read").count()

        with ThreadPoolExecutor(5) as pool:
            assert {r.status_code for r in pool.map(lambda _: door.chat(token), range(5))} == {200}
        assert reads() == 1
        secrets.put(acme, "agent_token", SecretStr("the-rotated-secret"), actor=SYSTEM)
        door.chat(token)
        assert dict(agent.asked[-1]["headers"])["authorization"] == "Bearer the-rotated-secret"
        assert reads() == 2

    def test_the_use_of_a_token_is_remembered(self, door, token):
        door.chat(token)
        until = time.monotonic() + 5
        while AccessToken.objects.get().last_used_at is None and time.monotonic() < until:
            time.sleep(0.02)
        assert AccessToken.objects.get().last_used_at is not None


class TestPlaces:
    @pytest.mark.parametrize(
        "host", ["nobody.localhost", "api2.localhost", "a.acme.localhost", "xn--80ak6aa92e.localhost"]
    )
    def test_a_host_without_a_tenant_is_404(self, door, token, host):
        assert error_of(door.chat(token, host=host)) == (404, "not_found")

    def test_a_deleted_tenant_is_404_and_its_successor_does_not_know_its_tokens(self, door, acme, token):
        acme.status = Status.DELETED
        acme.port = None
        acme.save()
        assert error_of(door.chat(token)) == (404, "not_found")
        TenantFactory(slug="acme", status=Status.RUNNING)  # B12
        assert error_of(door.chat(token)) == (401, "unauthenticated")

    @pytest.mark.parametrize(
        "host", ["acme.localhost", "ACME.LocalHost:8443", "acme.localhost.", "acme.localhost:8443"]
    )
    def test_d5_the_host_is_compared_without_case_and_port(self, door, token, host):
        assert door.chat(token, host=host).status_code == 200

    @pytest.mark.parametrize("path", ["/", "/admin/", "/admin/login/", "/api/docs", "/static/x", "/health", "/webhook"])
    def test_the_platforms_pages_are_never_served_under_a_tenants_name(self, door, acme, path):
        response = door.request("GET", path, headers={"Host": "acme.localhost"})
        assert error_of(response) == (404, "not_found")

    @pytest.mark.parametrize(
        "path",
        ["/v1/../v1/chat/completions", "//v1/chat/completions", CHAT + "//", "/V1/chat/completions", "/v1/modelsx"],
    )
    def test_l14_the_route_is_exact(self, door, token, path):
        with socket.create_connection(("127.0.0.1", door.port), timeout=20) as raw:
            raw.sendall(_raw(token, b"{}").replace(CHAT.encode(), path.encode(), 1))
            assert b" 404 " in raw.recv(65_536).split(b"\r\n")[0]

    def test_the_platforms_own_host_still_leads_to_django(self, door):
        response = door.request("GET", "/admin/", headers={"Host": "localhost"})
        assert response.status_code == 302
        assert "location" in response.headers

    @pytest.mark.parametrize(
        "change", [{"status": Status.STOPPED}, {"status": Status.ERROR}, {"routed": False}, {"port": None}]
    )
    def test_what_does_not_run_is_503(self, door, acme, token, agent, change):
        for name, value in change.items():
            setattr(acme, name, value)
        acme.save()
        response = door.chat(token)
        assert error_of(response) == (503, "tenant_not_running")
        assert response.headers["retry-after"] == "5"
        assert agent.asked == []

    def test_get_is_405(self, door, acme):
        response = door.request("GET", CHAT, headers={"Host": "acme.localhost"})
        assert error_of(response) == (405, "method_not_allowed")
        assert response.headers["allow"] == "POST"

    def test_a_websocket_at_the_door_is_refused(self, door, acme):
        sock = socket.create_connection(("127.0.0.1", door.port), timeout=20)
        with pytest.raises(InvalidStatus) as refusal:
            connect("ws://acme.localhost/ws", sock=sock)
        assert refusal.value.response.status_code == 403


MB = 1_048_576


def picture(size):
    """A chat with a picture of about so many bytes."""
    part = {"type": "image_url", "image_url": {"url": "data:image/png;base64," + "A" * size}}
    return {"messages": [{"role": "user", "content": [{"type": "text", "text": "What is it?"}, part]}]}


def held():
    return door_http._large._total


class TestWhatClientsReallySend:
    def models(self, door, token, path="/v1/models", **headers):
        return door.request(
            "GET", path, headers={"Host": "acme.localhost", "Authorization": f"Bearer {token}", **headers}
        )

    @pytest.mark.parametrize("path", ["/v1/models", "/v1/models/"])
    def test_the_models_are_a_list_with_the_agent(self, door, acme, token, agent, path):
        answered = self.models(door, token, path)
        assert answered.status_code == 200
        assert answered.json() == {
            "object": "list",
            "data": [
                {"id": "agent", "object": "model", "created": int(acme.created_at.timestamp()), "owned_by": "acme"}
            ],
        }
        assert agent.asked == []

    def test_the_models_of_a_tenant_that_does_not_run_are_the_same(self, door, acme, token):
        Tenant.objects.filter(pk=acme.pk).update(status=Status.STOPPED, routed=False)
        assert self.models(door, token).status_code == 200

    def test_l15_the_models_are_told_to_nobody_else(self, door, acme, token):
        assert error_of(self.models(door, "zct_nobody")) == (401, "unauthenticated")
        assert error_of(self.models(door, token, Host="other.localhost")) == (404, "not_found")
        refused = door.request("POST", "/v1/models", headers={"Host": "acme.localhost"}, json={})
        assert (error_of(refused), refused.headers["allow"]) == ((405, "method_not_allowed"), "GET")

    def test_a_client_of_openai_s_form_finds_its_model_and_chats_with_it(self, door, token, agent):
        model = self.models(door, token).json()["data"][0]["id"]
        assert door.chat(token, {**HELLO, "model": model}).status_code == 200

    @pytest.mark.parametrize(
        ("path", "kind", "body"),
        [
            (CHAT + "/", "application/json", json.dumps(HELLO).encode()),
            (CHAT, None, json.dumps(HELLO).encode()),
            (CHAT, "", json.dumps(HELLO).encode()),
            (CHAT, "application/json", b"\xef\xbb\xbf" + json.dumps(HELLO).encode()),
            (CHAT, "application/json", json.dumps({**HELLO, "max_tokens": 1000.0, "n": 1.0, "seed": 7.0}).encode()),
        ],
    )
    def test_what_means_the_same_is_taken_as_the_same(self, door, token, agent, path, kind, body):
        headers = {"Host": "acme.localhost", "Authorization": f"Bearer {token}"}
        headers |= {} if kind is None else {"Content-Type": kind}
        assert door.request("POST", path, headers=headers, content=body).status_code == 200
        sent = json.loads(agent.asked[0]["body"])
        assert sent["messages"] == HELLO["messages"]
        assert {type(sent[name]) for name in ("max_tokens", "n", "seed") if name in sent} <= {int}


class TestBodies:
    def test_m1_a_declared_byte_too_many_is_refused_unread(self, door, token, settings):
        with socket.create_connection(("127.0.0.1", door.port), timeout=20) as raw:
            raw.sendall(_raw(token, b"{", length=settings.DOOR_BODY_MAX + 1))
            assert b" 413 " in raw.recv(65_536).split(b"\r\n")[0]

    def test_m1_a_stranger_has_no_part_in_the_larger_limit(self, door, acme):
        with socket.create_connection(("127.0.0.1", door.port), timeout=20) as raw:
            raw.sendall(_raw("zct_nobody", b"{", length=2_000_000))
            assert b" 401 " in raw.recv(65_536).split(b"\r\n")[0]

    def test_a_picture_in_a_chat_reaches_the_agent_whole(self, door, token, agent):
        body = picture(5 * MB)
        assert door.chat(token, body).status_code == 200
        assert json.loads(agent.asked[0]["body"])["messages"] == body["messages"]
        until(lambda: held() == 0)

    def test_what_is_larger_than_a_megabyte_waits_in_a_file(self, door, token, agent, monkeypatch):
        rolled, add = [], arriving.Spool.add

        def watched(spool, chunk):
            add(spool, chunk)
            rolled.append((spool.size > MB, spool._file._rolled))

        monkeypatch.setattr(arriving.Spool, "add", watched)
        assert door.chat(token, picture(3 * MB)).status_code == 200
        assert set(rolled) == {(False, False), (True, True)}

    def test_m3_bytes_in_flight_are_bounded_until_they_are_answered(self, door, token, agent, monkeypatch):
        monkeypatch.setattr(arriving, "LARGE_AT_ONCE", 5 * MB)
        agent.act = agent.stream
        with ThreadPoolExecutor(2) as pool:
            first = pool.submit(door.chat, token, {**picture(3 * MB), "stream": True})
            until(lambda: agent.asked)
            refused = door.chat(token, picture(3 * MB))
            assert error_of(refused) == (503, "overloaded")
            assert int(refused.headers["retry-after"]) > 0
            agent.act = agent.reply
            assert door.chat(token).status_code == 200, "small ones go on"
            agent.go.set()
            assert first.result().status_code == 200
        until(lambda: held() == 0)
        assert door.chat(token, picture(3 * MB)).status_code == 200

    def test_m3_one_network_leaves_room_for_the_others(self, door, token, agent, monkeypatch):
        monkeypatch.setattr(arriving, "LARGE_OF_ONE", 2 * MB)
        assert error_of(door.chat(token, picture(3 * MB))) == (503, "overloaded")
        until(lambda: held() == 0)

    def test_n5_values_that_would_fill_the_memory_are_refused_before_they_are_read(self, door, token, agent):
        body = b'{"messages": [' + b"[]," * 1_000_000 + b"[]]}"
        headers = {"Host": "acme.localhost", "Authorization": f"Bearer {token}"}
        assert error_of(door.request("POST", CHAT, headers=headers, content=body)) == (422, "too_complex")
        assert agent.asked == []

    def test_a_full_disk_is_told_as_busy(self, door, token, monkeypatch):
        class Full:
            def __init__(self, **_how):
                pass

            def write(self, _chunk):
                raise OSError(28, "No space left on device")

            def close(self):
                pass

        monkeypatch.setattr(arriving, "SpooledTemporaryFile", Full)
        assert error_of(door.chat(token)) == (503, "overloaded")

    def test_m1_a_chunked_body_is_counted(self, door, token, agent, settings):
        settings.DOOR_BODY_MAX = MB

        def endless():
            for _ in range(40):
                yield b" " * 65_536

        try:
            response = door.request(
                "POST", CHAT, headers={"Host": "acme.localhost", "Authorization": f"Bearer {token}"}, content=endless()
            )
            assert error_of(response) == (413, "too_large")
        except httpx.WriteError:
            pass  # cut while it was still sending
        assert agent.asked == []

    def test_m1_a_length_that_lies_low_is_held_to(self, door, token):
        body = json.dumps(HELLO).encode()
        with socket.create_connection(("127.0.0.1", door.port), timeout=20) as raw:
            raw.sendall(_raw(token, body + b"GARBAGE", length=len(body)))
            assert b" 200 " in raw.recv(65_536).split(b"\r\n")[0]

    def test_l13_length_and_chunks_together_are_refused(self, door, token, agent):
        with socket.create_connection(("127.0.0.1", door.port), timeout=20) as raw:
            raw.sendall(
                _raw(token, b"0\r\n\r\nGET / HTTP/1.1\r\n\r\n", length=4, extra=b"Transfer-Encoding: chunked\r\n")
            )
            assert b" 200 " not in raw.recv(65_536)
        assert agent.asked == []

    def test_m2_a_body_that_does_not_come_is_408(self, door, token, monkeypatch):
        monkeypatch.setattr(door_http, "LARGE_TIMEOUT_S", 0.2)
        with socket.create_connection(("127.0.0.1", door.port), timeout=20) as raw:
            raw.sendall(_raw(token, b"{", length=100))
            assert b" 408 " in raw.recv(65_536).split(b"\r\n")[0]

    def test_what_is_not_json_is_400_and_a_wrong_shape_422(self, door, token, agent):
        assert error_of(door.chat(token, b"{")) == (400, "bad_json")
        assert error_of(door.chat(token, headers={"Content-Type": "text/plain"})) == (400, "bad_json")
        assert error_of(door.chat(token, {"messages": []})) == (422, "invalid_field")
        assert agent.asked == []


class TestLimit:
    def test_m3_chats_of_one_tenant_at_once_are_limited(self, door, agent, token, settings):
        settings.CHATS_PER_TENANT = 1
        agent.act = agent.stream
        connection, response, _ = door.open_stream(token)
        refused = door.chat(token)
        assert error_of(refused) == (429, "too_many_chats")
        assert refused.headers["retry-after"] == "5"
        agent.go.set()
        response.read()
        connection.close()
        agent.act = agent.reply
        assert door.chat(token).status_code == 200


class TestFaults:
    def test_l17_a_dead_agent_is_503(self, door, acme, token):
        acme.port = free_port()
        acme.save()
        assert error_of(door.chat(token)) == (503, "agent_unreachable")
        assert error_of(door.chat(token, {**HELLO, "stream": True})) == (503, "agent_unreachable")

    @pytest.mark.parametrize(
        ("status", "expected"),
        [
            (500, (502, "bad_upstream")),
            (401, (502, "bad_upstream")),
            (404, (502, "bad_upstream")),
            (204, (502, "bad_upstream")),
            (400, (422, "agent_refused")),
            (429, (429, "rate_limited")),
            (503, (503, "agent_unready")),
            (504, (504, "agent_timeout")),
        ],
    )
    @pytest.mark.parametrize("stream", [True, False])
    def test_l17_the_class_of_a_refusal_is_passed_on_and_nothing_of_its_text(
        self, door, agent, token, status, expected, stream
    ):
        agent.status = status
        agent.content = b"" if status == 204 else f"http://127.0.0.1/internal {AGENT_SECRET}".encode()
        agent.headers = [(b"retry-after", b"17")]
        response = door.chat(token, {**HELLO, "stream": stream})
        assert error_of(response) == expected
        if status == 429:
            assert response.headers["retry-after"] == "17"

    @pytest.mark.parametrize("content", [b"<html>", b"", b"[]", b'{"choices": []}', b"\xff"])
    def test_l17_garbage_is_502(self, door, agent, token, content):
        agent.content = content
        assert error_of(door.chat(token)) == (502, "bad_upstream")

    def test_an_answer_that_breaks_off_is_502(self, door, agent, token):
        agent.act = agent.break_off
        assert error_of(door.chat(token)) == (502, "bad_upstream")

    def test_a_stream_that_breaks_off_ends_with_an_event_of_the_error(self, door, agent, token):
        agent.act = agent.break_off
        response = door.chat(token, {**HELLO, "stream": True})
        assert response.status_code == 200
        *_, last = response.text.strip().split("\n\n")
        kind, data = last.split("\n")
        error = json.loads(data.removeprefix("data: "))["error"]
        assert (kind, error["type"]) == ("event: error", "bad_upstream")
        assert error["request_id"] == response.headers["x-request-id"]

    def test_an_agent_that_never_answers_is_504(self, door, agent, token, monkeypatch):
        monkeypatch.setattr(door_upstream, "READ_TIMEOUT_S", 0.3)
        agent.act, agent.content = agent.wait_for_hang_up, b""
        assert error_of(door.chat(token)) == (504, "agent_timeout")
        assert agent.left.wait(20)

    def test_an_answer_of_unreasonable_size_is_502(self, door, agent, token, monkeypatch):
        monkeypatch.setattr(door_upstream, "MAX_REPLY", 1_000)
        agent.content = json.dumps({**REPLY, "x": "y" * 2_000}).encode()
        assert error_of(door.chat(token)) == (502, "bad_upstream")

    def test_a_tenant_without_an_agent_token_is_500_and_says_nothing(self, door, acme, token):
        secrets.remove(acme, actor=SYSTEM)
        assert error_of(door.chat(token)) == (500, "no_agent_token")

    def test_l18_neither_prompt_nor_answer_nor_token_is_logged(self, door, agent, token, caplog):
        with caplog.at_level(logging.DEBUG, logger="tenants"):
            door.chat(token, {"messages": [{"role": "user", "content": "a very private question"}]})
            while not any(record.message == "door" for record in caplog.records):  # it follows the answer
                threading.Event().wait(0.01)
        logged = " ".join(str(vars(record)) for record in caplog.records)
        assert "acme" in logged
        for private in ("a very private question", '"hi"', token, AGENT_SECRET):
            assert private not in logged


@pytest.mark.caddy
class TestThroughCaddy:
    @pytest.fixture(autouse=True)
    def routed(self, caddy, settings, door, acme):
        settings.PORT = door.port
        router().sync(routes.desired)
        self.front = Client(caddy.port)

    def test_a_stream_passes_as_it_comes_and_the_webhook_goes_to_the_agent(self, agent, token):
        agent.act = agent.stream
        connection, response, first = self.front.open_stream(token)
        assert first == CHUNK
        agent.go.set()
        assert response.read() == CHUNK + DONE
        connection.close()
        agent.act = agent.reply
        assert self.front.request("POST", "/webhook", headers={"Host": "acme.localhost"}).json() == REPLY
        assert [asked["path"] for asked in agent.asked] == [CHAT, "/webhook"]

    def test_l8_hanging_up_reaches_the_agent_through_both(self, agent, token):
        agent.act = agent.wait_for_hang_up
        connection, response, _ = self.front.open_stream(token)
        response.close()
        connection.close()
        assert agent.left.wait(20)

    def test_with_the_route_withdrawn_nothing_reaches_the_agent(self, acme, agent, token):
        acme.routed = False
        acme.save()
        assert error_of(self.front.chat(token)) == (503, "tenant_not_running")  # the row alone is enough
        router().sync(routes.desired)
        assert error_of(self.front.chat(token)) == (503, "tenant_not_running")
        assert self.front.request("POST", "/webhook", headers={"Host": "acme.localhost"}).status_code == 404
        assert agent.asked == []

    def test_an_unknown_tenant_is_404_by_the_door(self, token):
        assert error_of(self.front.chat(token, host="nobody.localhost")) == (404, "not_found")


class TestDirect:
    @pytest.fixture(autouse=True)
    def direct(self, settings):
        settings.ROUTER = "direct"

    def get(self, door, path, method="GET", **headers):
        return door.request(method, path, headers={"Host": "localhost", **headers})

    def test_an_agent_that_never_answers_its_visitors_takes_no_place_of_the_chats(
        self, door, agent, acme, token, monkeypatch
    ):
        monkeypatch.setattr(door_module, "PUBLIC_AT_ONCE", 2)
        monkeypatch.setattr(door_module, "PUBLIC_EACH", 1)
        agent.act, agent.content = agent.wait_for_hang_up, b""
        with socket.create_connection(("127.0.0.1", door.port), timeout=20) as visitor:
            visitor.sendall(b"GET /t/acme/webhook HTTP/1.1\r\nHost: localhost\r\n\r\n")
            until(lambda: agent.asked)
            refused = door.request("GET", "/t/acme/webhook", headers={"Host": "localhost"})
            assert error_of(refused) == (429, "rate_limited") and refused.headers["retry-after"] == "5"
            agent.act, agent.content = agent.reply, json.dumps(REPLY).encode()
            assert door.chat(token, path=f"/t/acme{CHAT}", host="localhost").status_code == 200
            monkeypatch.setattr(door_module, "PUBLIC_EACH", 2)  # as somebody of another network
            assert door.request("GET", "/t/acme/webhook", headers={"Host": "localhost"}).status_code == 200
        assert agent.left.wait(20)
        monkeypatch.setattr(door_module, "PUBLIC_EACH", 1)
        until(lambda: door.request("GET", "/t/acme/webhook", headers={"Host": "localhost"}).status_code == 200)

    def test_chat_below_the_platforms_address(self, door, token):
        assert door.chat(token, host="localhost", path=f"/t/acme{CHAT}").json() == REPLY
        assert door.chat("", host="localhost", path=f"/t/acme{CHAT}").status_code == 401

    def test_a_public_path_is_forwarded_with_query_and_body(self, door, agent, acme):
        agent.status, agent.content, agent.headers = 202, b"<p>", [(b"content-type", b"text/html")]
        response = door.request(
            "POST", "/t/acme/webhook?a=1&b=%20", headers={"Host": "localhost", "X-Signature": "s"}, content=b"payload"
        )
        assert (response.status_code, response.content) == (202, b"<p>")
        asked = agent.asked[0]
        assert (asked["method"], asked["path"], asked["query"], asked["body"]) == (
            "POST",
            "/webhook",
            "a=1&b=%20",
            b"payload",
        )
        assert ("x-signature", "s") in asked["headers"]

    def test_a_public_path_takes_as_much_as_through_caddy(self, door, agent, acme):
        body = b"x" * 2 * MB
        answered = door.request("POST", "/t/acme/webhook", headers={"Host": "localhost"}, content=body)
        assert (answered.status_code, agent.asked[0]["body"]) == (200, body)
        connection = http.client.HTTPConnection("127.0.0.1", door.port, timeout=20)
        connection.putrequest("POST", "/t/acme/webhook", skip_host=True)
        connection.putheader("Host", "localhost")
        connection.putheader("Content-Length", str(10 * MB + 1))
        connection.endheaders()  # and none of the body, which could make the answer go astray
        response = connection.getresponse()
        assert (response.status, json.load(response)["error"]["type"]) == (413, "too_large")
        connection.close()

    def test_a_page_of_an_agent_gets_nothing_of_the_platforms_origin(self, door, agent, acme):
        agent.headers = [
            (b"content-type", b"text/html"),
            (b"set-cookie", b"zc_session=stolen; Path=/"),
            (b"clear-site-data", b'"*"'),
            (b"service-worker-allowed", b"/"),
            (b"access-control-allow-origin", b"*"),
            (b"x-content-type-options", b"off"),
        ]
        response = self.get(
            door,
            "/t/acme/webhook",
            Cookie="zc_session=mine",
            Connection="X-Hop",
            **{"X-Hop": "1", "X-Forwarded-For": "6"},
        )
        assert response.headers["content-security-policy"].startswith("sandbox")
        assert "allow-same-origin" not in response.headers["content-security-policy"]
        assert response.headers["x-content-type-options"] == "nosniff"
        for name in ("set-cookie", "clear-site-data", "service-worker-allowed", "access-control-allow-origin"):
            assert name not in response.headers
        sent = dict(agent.asked[0]["headers"])
        for name in ("cookie", "x-hop", "x-forwarded-for"):
            assert name not in sent

    @pytest.mark.parametrize(
        "path",
        [
            "",
            "/",
            "/metrics",
            "/admin/",
            "/webhook/x",
            "/webhook/../metrics",
            "/%2e%2e/admin",
            "//webhook",
            "/web%68ook",
        ],
    )
    def test_l14_anything_else_is_404(self, door, agent, acme, path):
        with socket.create_connection(("127.0.0.1", door.port), timeout=20) as raw:
            raw.sendall(f"GET /t/acme{path} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode())
            assert b" 404 " in raw.recv(65_536).split(b"\r\n")[0]
        assert agent.asked == []

    @pytest.mark.parametrize("slug", ["nobody", "api", "ACME", "a%0a", "{env.X}", ""])
    def test_another_slug_is_404(self, door, acme, slug):
        assert error_of(self.get(door, f"/t/{slug}/webhook"))[0] == 404

    def test_what_does_not_run_is_503(self, door, acme):
        acme.routed = False
        acme.save()
        assert error_of(self.get(door, "/t/acme/webhook")) == (503, "tenant_not_running")

    def test_an_answer_that_breaks_off_is_torn_for_the_client_too(self, door, agent, acme):
        agent.act = agent.break_off
        with pytest.raises(httpx.RemoteProtocolError):
            self.get(door, "/t/acme/webhook")

    def test_with_caddy_these_paths_are_not_the_doors(self, door, acme, settings):
        settings.ROUTER = "caddy"
        response = self.get(door, "/t/acme/webhook")
        assert response.status_code == 404
        assert "x-content-type-options" in response.headers
        assert "sandbox" not in response.headers.get("content-security-policy", "")
