"""The admin socket's path, the listen address, the routers' URLs, and how Caddy is started."""

import json
import os
import stat
from pathlib import Path

import pytest

from tenants.routing import router
from tenants.routing.addresses import admin_socket, listen_address, platform_hosts
from tenants.routing.caddy import CaddyRouter
from tenants.routing.direct import DirectRouter
from tests.caddy import make_route
from zcplatform import caddy_process
from zcplatform.lib.errors import InvalidField, Misconfigured


class TestAdminSocket:
    def test_it_lies_in_the_home(self, settings):
        settings.HOME, settings.CADDY_ADMIN = Path("/srv/zc"), ""
        assert admin_socket() == Path("/srv/zc/run/caddy.sock")

    def test_a_long_home_gets_a_short_path_that_every_process_finds(self, settings):
        settings.HOME, settings.CADDY_ADMIN = Path("/" + "x" * 120), ""
        assert len(os.fsencode(admin_socket())) <= 100
        assert admin_socket() == admin_socket()
        first = admin_socket()
        settings.HOME = Path("/" + "y" * 120)
        assert admin_socket() != first

    @pytest.mark.root
    @pytest.mark.skipif(os.geteuid() != 0, reason="needs root")
    def test_no_agent_can_take_the_name_of_the_short_path_first(self, settings):
        settings.HOME, settings.CADDY_ADMIN = Path("/" + "x" * 120), ""
        above = admin_socket().parent.parent.stat()
        assert above.st_uid == 0 and not above.st_mode & 0o022

    @pytest.mark.parametrize(
        "value", ["/run/c.sock", "unix//run/c.sock", "unix//run/c.sock|0660", "unix:///run/c.sock"]
    )
    def test_a_given_one_in_every_spelling(self, settings, value):
        settings.CADDY_ADMIN = value
        assert admin_socket() == Path("/run/c.sock")

    @pytest.mark.parametrize(
        "value",
        ["127.0.0.1:2019", ":2019", "http://127.0.0.1:2019", "run/c.sock", "/run/{env.X}.sock", "/" + "x" * 120],
    )
    def test_never_tcp_and_never_what_caddy_would_expand(self, settings, value):
        settings.CADDY_ADMIN = value
        with pytest.raises(Misconfigured):
            admin_socket()


@pytest.mark.parametrize(
    ("listen", "found"), [(":8443", ("", 8443)), ("127.0.0.1:80", ("127.0.0.1", 80)), ("[::1]:443", ("[::1]", 443))]
)
def test_listen_addresses(listen, found):
    assert listen_address(listen) == found


@pytest.mark.parametrize(
    "listen", ["", "8443", ":0", ":99999", "{env.X}:80", "unix//run/x", ":80-90", "a b:80", ":80\n"]
)
def test_other_listen_addresses_are_refused(listen):
    with pytest.raises(Misconfigured):
        listen_address(listen)


def test_the_platforms_own_hosts(settings):
    settings.PUBLIC_HOST, settings.DOMAIN = "Panel.Example.test", "example.test"
    assert platform_hosts() == ("api.example.test", "example.test", "panel.example.test")


class TestUrls:
    def test_a_standard_port_is_left_out(self, settings):
        settings.ROUTER, settings.TENANT_URL, settings.DOMAIN = "caddy", "", "example.test"
        settings.CADDY_LISTEN, settings.CADDY_HTTPS = ":443", True
        assert router().url("acme") == "https://acme.example.test"
        assert router().connect("acme") == ("https://127.0.0.1:443", {"Host": "acme.example.test"})

    def test_an_odd_port_is_part_of_the_url_and_of_the_host(self, settings):
        settings.TENANT_URL, settings.DOMAIN = "", "localhost"
        settings.CADDY_LISTEN, settings.CADDY_HTTPS = ":8443", False
        assert CaddyRouter().url("acme") == "http://acme.localhost:8443"
        assert CaddyRouter().connect("acme") == ("http://127.0.0.1:8443", {"Host": "acme.localhost:8443"})

    def test_the_operators_pattern_prevails(self, settings):
        settings.TENANT_URL = "https://{slug}.agents.example.test/"
        assert CaddyRouter().url("acme") == "https://acme.agents.example.test"

    def test_direct_is_a_path_under_the_platforms_address(self, settings):
        settings.ROUTER, settings.PUBLIC_BASE_URL, settings.PORT = "direct", "https://panel.example.test", 8080
        settings.BIND = "0.0.0.0"
        assert router().url("acme") == "https://panel.example.test/t/acme"
        assert router().connect("acme") == ("http://127.0.0.1:8080/t/acme", {})

    @pytest.mark.parametrize("driver", [CaddyRouter(), DirectRouter()])
    def test_no_address_is_made_of_what_is_no_slug(self, settings, driver):
        for slug in ("a/b", "{env.X}", "api", "x\n"):
            for make in (driver.url, driver.connect):
                with pytest.raises(InvalidField):
                    make(slug)


def test_direct_has_nothing_to_bring_in_line():
    def never():
        raise AssertionError("the rows need not be asked")

    assert not DirectRouter().sync(never)
    assert not DirectRouter().differences([make_route("acme")])
    assert DirectRouter().check().kind == "direct"


class TestStart:
    @pytest.fixture(autouse=True)
    def home(self, settings, tmp_path):
        settings.HOME, settings.CADDY_ADMIN = tmp_path, ""
        return tmp_path

    @pytest.mark.caddy
    def test_the_configuration_holds_the_admin_socket_and_no_secret(self, home):
        command = caddy_process.prepare()
        config = Path(command.argv[-1])
        assert json.loads(config.read_text())["admin"]["listen"] == f"unix/{home}/run/caddy.sock|0600"
        assert stat.S_IMODE(config.stat().st_mode) == 0o600
        assert stat.S_IMODE(command.socket.parent.stat().st_mode) == 0o700
        assert not [name for name in command.env if name.startswith("ZCPLATFORM")]

    @pytest.mark.caddy
    def test_twice_is_once(self):
        assert caddy_process.prepare() == caddy_process.prepare()

    def test_a_folder_that_others_can_write_is_refused(self, home):
        (home / "run").mkdir()
        (home / "run").chmod(0o777)
        with pytest.raises(Misconfigured):
            caddy_process.private_folder(home / "run")

    def test_a_link_in_place_of_the_folder_is_refused(self, home):
        (home / "elsewhere").mkdir()
        (home / "run").symlink_to(home / "elsewhere")
        with pytest.raises(Misconfigured):
            caddy_process.private_folder(home / "run")

    def test_without_caddy_the_error_says_what_to_do(self, monkeypatch):
        monkeypatch.setattr("sysconfig.get_path", lambda name: "/nowhere")
        monkeypatch.setenv("PATH", "/nowhere")
        with pytest.raises(Misconfigured) as fault:
            caddy_process.find_binary()
        assert fault.value.type == "no_caddy"
