"""CaddyRouter against a real Caddy: exactness, repair, many writers, and what a request may and may not do."""

import fcntl
import json
import os
import socket
import ssl
import subprocess
import sys
import threading
import uuid
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import pytest

from tenants.routing import caddy_admin, caddy_config
from tenants.routing.base import SyncResult
from tenants.routing.caddy import CaddyRouter, current_site
from tests.caddy import free_port, make_route
from tests.serving import answer, serving
from tests.tenants.routing.upstream import Upstream
from zcplatform.lib.errors import BadUpstream, DependencyDown, DependencyTimeout, InvalidField, Misconfigured

pytestmark = pytest.mark.caddy
ROUTER = CaddyRouter()
NOT_SERVED = [
    "/", "/metrics", "/admin/", "/pair/code", "/webhook/x", "/hook/../metrics", "/metrics/../webhook",
    "/hook/%2e%2e/metrics", "/hook//x", "//webhook", "/hook/..%2fmetrics", "/v1/../metrics", "/hook/%5c..%5cx",
]  # fmt: skip
FORGED = dict.fromkeys(("X-Forwarded-For", "X_Forwarded_For", "Forwarded", "X-Real-IP", "X-Forwarded-Host"), "6.6.6.6")


@pytest.fixture(scope="module")
def upstreams():
    with Upstream("platform").run() as platform, Upstream("agent").run() as agent:
        yield platform, agent


@pytest.fixture
def platform(upstreams, caddy, settings):
    settings.PORT = upstreams[0].port
    return upstreams[0]


@pytest.fixture
def agent(upstreams):
    return upstreams[1]


def sync(*routes):
    return ROUTER.sync(lambda: list(routes))


def tenants(caddy):
    return caddy.server()["routes"][2]["handle"][-1]["routes"]


class TestExactness:
    def test_an_empty_caddy_is_filled_and_a_second_sync_finds_nothing_to_do(self, caddy):
        result = sync(make_route("acme"), make_route("beta"))
        assert result.platform
        assert set(result.added) == {make_route("acme").tenant, make_route("beta").tenant}
        assert sync(make_route("acme"), make_route("beta")) == SyncResult()

    def test_each_change_is_named_by_tenant(self, caddy):
        sync(make_route("stays"), make_route("moves"), make_route("goes"))
        result = sync(make_route("stays"), make_route("moves", 20_002), make_route("comes"))
        assert result == SyncResult(
            added=(make_route("comes").tenant,),
            changed=(make_route("moves").tenant,),
            removed=(make_route("goes").tenant,),
        )

    def test_differences_tells_the_same_and_changes_nothing(self, caddy):
        sync(make_route("acme"))
        before = caddy.config("/")
        assert ROUTER.differences([make_route("beta")]) == SyncResult(
            added=(make_route("beta").tenant,), removed=(make_route("acme").tenant,)
        )
        assert caddy.config("/") == before
        assert not ROUTER.differences([make_route("acme")])

    def test_d9_the_same_route_again_and_again_is_one_route(self, caddy):
        for _ in range(5):
            sync(make_route("acme"))
        assert [route["@id"] for route in tenants(caddy)] == [f"zc-{make_route('acme').tenant}"]

    def test_a_route_is_found_by_its_id(self, caddy):
        sync(make_route("acme", 20_007))
        assert "127.0.0.1:20007" in caddy.admin("GET", f"/id/zc-{make_route('acme').tenant}").text

    def test_a_hostile_route_is_refused_and_nothing_changed(self, caddy):
        sync(make_route("acme"))
        before = caddy.config("/")
        with pytest.raises(InvalidField):
            sync(make_route("acme"), make_route("a.b"))
        assert caddy.config("/") == before

    def test_the_version_is_that_of_the_running_program(self, caddy):
        from zcplatform.caddy_process import find_binary

        said = subprocess.run([find_binary(), "version"], capture_output=True, text=True, check=True).stdout
        info = ROUTER.check()
        assert (info.kind, f"v{info.version}") == ("caddy", said.split()[0])


class TestRepair:
    def test_r14_killed_and_restarted_empty_all_routes_come_back(self, caddy):
        routes = [make_route(f"tenant-{n}") for n in range(20)]
        sync(*routes)
        before = caddy.server()
        caddy.kill()
        with pytest.raises(DependencyDown):
            sync(*routes)
        caddy.start()
        assert len(sync(*routes).added) == 20
        assert caddy.server() == before

    @pytest.mark.parametrize("path", ["/apps", "/apps/http", "/apps/http/servers"])
    def test_wiped_by_hand_it_is_repaired(self, caddy, path):
        sync(make_route("acme"))
        assert caddy.admin("DELETE", f"/config{path}").status_code == 200
        assert sync(make_route("acme")).added == (make_route("acme").tenant,)
        assert not sync(make_route("acme"))

    def test_d11_the_platforms_routes_are_put_back_and_stand_first(self, caddy, platform):
        sync(make_route("acme"))
        server = caddy.server()
        shadow = {"match": [{"host": ["localhost"]}], "handle": [{"handler": "static_response", "body": "shadow"}]}
        server["routes"] = [server["routes"][0], shadow, server["routes"][2]]
        name = next(iter(caddy.config("/apps/http/servers")))
        assert caddy.admin("PATCH", f"/config/apps/http/servers/{name}", server).status_code == 200
        assert caddy.get("localhost")[1] == b"shadow"
        assert sync(make_route("acme")) == SyncResult(platform=True)
        assert json.loads(caddy.get("localhost")[1])["name"] == "platform"
        assert caddy.server()["routes"][1]["@id"].startswith("zc-platform-")

    def test_an_unknown_route_among_ours_is_removed(self, caddy):
        sync(make_route("acme"))
        name = next(iter(caddy.config("/apps/http/servers")))
        last = len(caddy.server()["routes"][2]["handle"]) - 1
        path = f"/config/apps/http/servers/{name}/routes/2/handle/{last}/routes/0"
        alien = {"@id": "zc-alien", "handle": [{"handler": "static_response", "body": "alien"}]}
        assert caddy.admin("PUT", path, alien).status_code == 200
        assert caddy.get("alien.localhost")[1] == b"alien"
        assert sync(make_route("acme")) == SyncResult(removed=("alien",))
        assert caddy.get("alien.localhost")[0] == 404

    def test_other_servers_and_apps_are_left_untouched(self, caddy):
        port = free_port()
        theirs = {"listen": [f"127.0.0.1:{port}"], "routes": [], "automatic_https": {"disable": True}}
        caddy.admin("PUT", "/config/apps/http/servers/theirs", theirs)
        pki = caddy.config("/apps/pki")
        assert pki
        sync(make_route("acme"))
        sync()
        assert caddy.config("/apps/http/servers/theirs") == theirs
        assert caddy.config("/apps/pki") == pki

    def test_two_installations_on_one_caddy_do_not_see_each_other(self, caddy, settings):
        sync(make_route("acme"))
        ours = caddy.server()
        settings.INSTANCE, settings.CADDY_LISTEN = "otherinstance", f"127.0.0.1:{free_port()}"
        sync(make_route("beta"))
        servers = caddy.config("/apps/http/servers")
        assert len(servers) == 2
        assert ours in servers.values()


ADD_ONE = """
import os, sys, time
os.environ["DJANGO_SETTINGS_MODULE"] = "tests.settings"
from pathlib import Path
from django.conf import settings
home, instance, listen, port, folder, first = sys.argv[1:]
settings.HOME, settings.INSTANCE, settings.CADDY_LISTEN, settings.PORT = Path(home), instance, listen, int(port)
settings.DOMAIN = settings.PUBLIC_HOST = "localhost"
import django
django.setup()
from concurrent.futures import ThreadPoolExecutor
from tenants.routing.caddy import CaddyRouter, current_site
from tests.caddy import make_route

def add(n):
    (Path(folder) / f"tenant-{n}").touch()
    CaddyRouter().sync(lambda: [make_route(file.name) for file in Path(folder).iterdir()])

while not (Path(home) / "go").exists():
    time.sleep(0.01)
with ThreadPoolExecutor(10) as pool:
    list(pool.map(add, range(int(first), int(first) + 10)))
"""


class TestManyWriters:
    def test_d10_fifty_parallel_adds_from_five_processes_are_fifty_routes(self, caddy, settings, tmp_path):
        common = [str(settings.HOME), settings.INSTANCE, settings.CADDY_LISTEN, str(settings.PORT), str(tmp_path)]
        environment = {**os.environ, "PYTHONPATH": str(settings.BASE_DIR)}
        writers = [
            subprocess.Popen([sys.executable, "-c", ADD_ONE, *common, str(first)], env=environment)
            for first in range(0, 50, 10)
        ]
        Path(settings.HOME, "go").touch()
        assert [writer.wait(120) for writer in writers] == [0] * 5
        wanted = {f"zc-{make_route(f'tenant-{n}').tenant}" for n in range(50)}
        assert {route["@id"] for route in tenants(caddy)} == wanted

    def test_d10_what_was_changed_since_it_was_read_is_not_overwritten(self, caddy):
        admin, name = caddy_admin.CaddyAdmin(caddy.socket), current_site().server_name
        sync(make_route("first"))
        server, etag = admin.read_server(name)
        sync(make_route("second"))
        before = caddy.server()
        for stale in (etag, ""):  # "": believed to be absent
            with pytest.raises(caddy_admin.Overtaken):
                admin.write_server(name, server, stale)
        caddy.admin("DELETE", f"/config/apps/http/servers/{name}")
        with pytest.raises(caddy_admin.Overtaken):
            admin.write_server(name, before, etag)

    def test_d10_a_writer_that_was_overtaken_asks_the_rows_again(self, caddy, monkeypatch):
        rows, write = [make_route("first")], caddy_admin.CaddyAdmin.write_server
        sync(make_route("zero"))

        def overtaken_once(admin, name, server, etag):
            if len(rows) == 1:
                rows.append(make_route("second"))
                write(admin, name, caddy_config.build_server(current_site(), rows), etag)
            write(admin, name, server, etag)

        monkeypatch.setattr(caddy_admin.CaddyAdmin, "write_server", overtaken_once)
        ROUTER.sync(lambda: list(rows))
        assert len(tenants(caddy)) == 2

    def test_d10_the_rows_are_asked_after_the_reading_so_that_nobodys_route_is_taken_away(self, caddy, monkeypatch):
        rows, read = [make_route("first")], caddy_admin.CaddyAdmin.read_server
        sync(*rows)

        def read_after_another_was_faster(admin, name):
            if len(rows) == 1:
                rows.append(make_route("second"))
                admin.write_server(name, caddy_config.build_server(current_site(), rows), read(admin, name)[1])
            return read(admin, name)

        monkeypatch.setattr(caddy_admin.CaddyAdmin, "read_server", read_after_another_was_faster)
        assert not ROUTER.sync(lambda: list(rows))
        assert len(tenants(caddy)) == 2

    def test_a_writer_that_hangs_in_its_turn_holds_nobody_up_for_good(self, caddy, settings, monkeypatch):
        monkeypatch.setattr("tenants.routing.caddy.TURN_S", 0.1)
        with Path(settings.HOME, "run", "router.lock").open("a") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            assert sync(make_route("acme"))

    def test_whoever_is_always_overtaken_gives_up_with_a_fault_that_may_be_retried(self, caddy, monkeypatch):
        monkeypatch.setattr("tenants.routing.caddy.MAX_PAUSE_S", 0)

        def overtaken(*args):
            raise caddy_admin.Overtaken

        monkeypatch.setattr(caddy_admin.CaddyAdmin, "write_server", overtaken)
        with pytest.raises(DependencyDown) as fault:
            sync(make_route("acme"))
        assert (fault.value.type, fault.value.permanent) == ("router_busy", False)


class TestRequests:
    def test_what_the_tenants_address_serves(self, caddy, platform, agent):
        sync(make_route("acme", agent.port, ("/webhook", "/hook/*")))

        def name(path, host="acme.localhost"):
            status, body = caddy.get(host, path)
            return json.loads(body).get("name", status)

        assert name("/v1/chat/completions") == "platform"
        assert name("/webhook") == name("/hook/telegram") == "agent"
        assert name("/", "localhost") == name("/admin/", "api.localhost") == "platform"

    @pytest.mark.parametrize("path", NOT_SERVED)
    def test_l14_anything_else_is_404_in_the_envelope(self, caddy, platform, agent, path):
        sync(make_route("acme", agent.port, ("/webhook", "/hook/*")))
        status, body = caddy.get("acme.localhost", path)
        error = json.loads(body)["error"]
        assert (status, error["type"], error["details"]) == (404, "not_found", {})
        assert uuid.UUID(error["request_id"])

    def test_an_unknown_host_is_404(self, caddy, platform):
        sync(make_route("acme"))
        for host in ("evil.test", "a.acme.localhost", f"127.0.0.1:{caddy.port}"):
            assert caddy.get(host, "/v1/chat/completions")[0] == 404
        assert caddy.get("nobody.localhost", "/webhook")[0] == 404

    def test_chat_of_a_host_without_a_route_is_for_the_door_to_answer(self, caddy, platform):
        sync()
        assert json.loads(caddy.get("nobody.localhost", "/v1/chat/completions")[1])["name"] == "platform"

    def test_d5_a_mixed_case_host_reaches_the_same_tenant_among_more_than_a_hundred(self, caddy, agent):
        others = [make_route(f"tenant-{n}", 1_024 + n) for n in range(120)]
        sync(*others, make_route("acme", agent.port))
        for host in ("acme.localhost", "ACME.localhost", "aCmE.LocalHost", f"Acme.LOCALHOST:{caddy.port}"):
            assert json.loads(caddy.get(host, "/webhook")[1])["name"] == "agent"

    def test_a_host_with_its_last_dot_has_the_same_answers_as_without(self, caddy, platform, agent):
        sync(make_route("acme", agent.port))
        asked = [
            ("acme.localhost", "/webhook"),
            ("acme.localhost", "/nothing"),
            ("localhost", "/"),
            ("api.localhost", "/"),
        ]
        asked += [("acme.localhost", "/v1/chat/completions"), ("nobody.localhost", "/webhook"), ("evil.test", "/")]
        for host, path in asked:
            (status, plain), *others = (
                caddy.get(spelled, path) for spelled in (host, f"{host}.", f"{host.upper()}.", f"{host}.:{caddy.port}")
            )
            assert {found[0] for found in others} == {status}, host
            if status == 200:
                seen = {json.loads(body)["name"]: dict(json.loads(body)["headers"])["host"] for _, body in others}
                assert set(seen) == {json.loads(plain)["name"]}
        assert caddy.get("acme.localhost..", "/webhook")[0] == 404

    def test_the_last_dot_of_a_host_reaches_nobody_behind(self, caddy, platform):
        sync()
        body = json.loads(caddy.get(f"localhost.:{caddy.port}", "/")[1])
        assert dict(body["headers"])["host"] == f"localhost:{caddy.port}"

    def test_k1_k2_forwarding_headers_of_a_client_are_dropped(self, caddy, platform, agent):
        sync(make_route("acme", agent.port))
        for host, path in (("localhost", "/"), ("acme.localhost", "/webhook")):
            got = json.loads(caddy.get(host, path, headers=FORGED)[1])["headers"]
            assert "6.6.6.6" not in json.dumps(got)
            assert ["x-forwarded-for", "127.0.0.1"] in got

    def test_d3_a_placeholder_in_a_request_is_not_expanded(self, caddy, platform):
        sync(make_route("acme"))
        status, body = caddy.get("acme.localhost", "/{env.PATH}")
        assert (status, b"/usr" in body) == (404, False)

    def test_a_chat_with_a_picture_passes_and_so_much_to_the_platform_s_own_address_does_not(self, caddy, platform):
        sync(make_route("acme"))
        large = {"method": "POST", "body": b"x" * 5_000_000, "headers": {"Content-Length": "5000000"}}
        status, body = caddy.get("acme.localhost", "/v1/chat/completions", **large)
        assert (status, json.loads(body)["size"]) == (200, 5_000_000)
        slightly = {"method": "POST", "body": b"x" * 1_048_577, "headers": {"Content-Length": "1048577"}}
        assert caddy.get("localhost", "/api/tenants", **slightly)[0] == 413

    @pytest.mark.parametrize("headers", [{"Content-Length": "1048577"}, {"Transfer-Encoding": "chunked"}])
    def test_m1_a_large_chat_is_refused_before_it_reaches_the_platform(self, caddy, platform, headers, settings):
        settings.DOOR_BODY_MAX = 1_048_576
        sync(make_route("acme"))
        body = b"x" * 1_048_577
        if "Transfer-Encoding" in headers:
            body = b"%x\r\n" % len(body) + body + b"\r\n0\r\n\r\n"
        status, answer = caddy.get("acme.localhost", "/v1/chat/completions", method="POST", headers=headers, body=body)
        assert (status, json.loads(answer)["error"]["type"]) == (413, "too_large")

    def test_m2_a_408_is_passed_on_without_waiting_for_the_rest_of_the_body(self, caddy, settings):
        async def impatient(scope, receive, send):
            await answer(send, 408, b"too slow")

        with serving(impatient) as settings.PORT:
            sync(make_route("acme"))
            with socket.create_connection(("127.0.0.1", caddy.port), timeout=20) as slow:
                slow.sendall(
                    b"POST /v1/chat/completions HTTP/1.1\r\nHost: acme.localhost\r\nContent-Length: 9\r\n\r\n{"
                )
                told = slow.makefile("rb").read()  # to the end of the connection
        assert told.startswith(b"HTTP/1.1 408 ")
        assert b"too slow" in told

    def test_l17_a_dead_agent_is_502_in_the_envelope_without_its_address(self, caddy):
        port = free_port()
        sync(make_route("acme", port))
        status, body = caddy.get("acme.localhost", "/webhook")
        assert (status, json.loads(body)["error"]["type"]) == (502, "bad_upstream")
        assert str(port).encode() not in body

    def test_l13_contradicting_lengths_are_not_forwarded(self, caddy, agent):
        sync(make_route("acme", agent.port))
        with socket.create_connection(("127.0.0.1", caddy.port), timeout=10) as raw:
            raw.sendall(
                b"POST /webhook HTTP/1.1\r\nHost: acme.localhost\r\nContent-Length: 4\r\nContent-Length: 9\r\n\r\nabcd"
            )
            assert b" 400 " in raw.recv(1_000)

    def test_the_tenants_address_and_how_to_reach_it_from_here(self, caddy, agent):
        sync(make_route("acme", agent.port))
        base, headers = ROUTER.connect("acme")
        assert ROUTER.url("acme") == f"http://acme.localhost:{caddy.port}"
        assert httpx.get(f"{base}/webhook", headers=dict(headers)).json()["name"] == "agent"

    def test_https_with_a_certificate_for_each_tenant(self, caddy, agent, settings):
        settings.CADDY_HTTPS = True
        sync(make_route("acme", agent.port))
        trusting = ssl.create_default_context()
        trusting.check_hostname, trusting.verify_mode = False, ssl.CERT_NONE
        base, headers = ROUTER.connect("acme")
        assert base == f"https://127.0.0.1:{caddy.port}"
        with httpx.Client(verify=trusting) as client:
            for _ in range(100):  # the certificate is made in the background
                try:
                    sni = {"sni_hostname": "acme.localhost"}
                    answer = client.get(f"{base}/webhook", headers=dict(headers), extensions=sni)
                    break
                except httpx.ConnectError:
                    threading.Event().wait(0.1)
        assert answer.json()["name"] == "agent"
        assert ["x-forwarded-proto", "https"] in answer.json()["headers"]


class TestFaults:
    def test_r13_no_caddy_is_a_fault_that_may_be_retried(self, settings, tmp_path):
        settings.CADDY_ADMIN = str(tmp_path / "nobody.sock")
        for call in (ROUTER.check, lambda: sync(make_route("acme")), lambda: ROUTER.differences([])):
            with pytest.raises(DependencyDown) as fault:
                call()
            assert (fault.value.type, fault.value.permanent) == ("router_down", False)

    @pytest.mark.parametrize(
        ("reply", "fault"),
        [
            (None, DependencyTimeout),
            (b"", DependencyTimeout),
            (b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n<htm>", BadUpstream),
            (b"HTTP/1.1 500 No\r\nContent-Length: 0\r\n\r\n", BadUpstream),
        ],
        ids=["hangs", "breaks off", "is not Caddy", "fails"],
    )
    def test_r13_a_caddy_that_answers_badly(self, settings, tmp_path, monkeypatch, reply, fault):
        monkeypatch.setattr(caddy_admin, "TIMEOUT_S", 0.3)
        settings.CADDY_ADMIN = str(tmp_path / "bad.sock")
        with socket.socket(socket.AF_UNIX) as listener, ThreadPoolExecutor(1) as pool:
            listener.bind(settings.CADDY_ADMIN)
            listener.listen()
            done = threading.Event()
            pool.submit(_answer_once, listener, reply, done)
            with pytest.raises(fault):
                sync(make_route("acme"))
            done.set()

    def test_a_configuration_that_caddy_refuses_fails_for_good_and_changes_nothing(self, caddy, settings):
        sync(make_route("acme"))
        before = caddy.config("/")
        with socket.socket() as taken:
            taken.bind(("127.0.0.1", 0))
            taken.listen()
            settings.CADDY_LISTEN = f"127.0.0.1:{taken.getsockname()[1]}"
            with pytest.raises(BadUpstream) as fault:
                sync(make_route("acme"))
        assert (fault.value.type, fault.value.permanent) == ("router_refused", True)
        assert caddy.config("/") == before

    def test_a_domain_that_caddy_would_expand_is_refused(self, caddy, settings):
        settings.DOMAIN = "{env.HOME}"
        with pytest.raises(Misconfigured):
            sync(make_route("acme"))


def _answer_once(listener, reply, done):
    connection, _ = listener.accept()
    with connection:
        connection.recv(65_536)
        if reply is None:
            done.wait(10)
        else:
            connection.sendall(reply)
