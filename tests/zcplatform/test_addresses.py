"""H-group: which addresses are public, and which are this host's own."""

from __future__ import annotations

from ipaddress import ip_address

import pytest
from django.test import override_settings
from hypothesis import given
from hypothesis import strategies as st

from zcplatform.lib import outside
from zcplatform.lib.addresses import DOCUMENTATION, NOT_PUBLIC_IPV4, is_here, is_public, within

PUBLIC = ("1.1.1.1", "11.0.0.1", "100.128.0.1", "172.32.0.1", "192.169.0.1", "2606:4700::1111")
PRIVATE = (
    *("0.0.0.0", "10.1.2.3", "100.64.0.1", "127.0.0.1", "127.9.9.9", "169.254.169.254", "172.16.0.1", "172.31.255.255"),
    *("192.168.1.1", "198.18.0.1", "224.0.0.1", "240.0.0.1", "255.255.255.255", "192.0.0.8"),
    *(
        "192.88.99.1",
        "3fff::1",
        "2001:20::1",
        "2606:4700::1111%eth0",
        "::",
        "::1",
        "fe80::1",
        "fe80::1%eth0",
        "fd00::1",
        "ff02::1",
        "::ffff:10.0.0.1",
        "::ffff:1.1.1.1",
    ),
    *("64:ff9b::a00:1", "2002:a00:1::", "2001::1", "2001:db8::1", "fec0::1"),
    *("", "example.com", "1.1.1", "0x7f.1", "2130706433", "01.1.1.1", "1.1.1.1 ", "1.1.1.1%eth0"),
)


@pytest.mark.parametrize("text", PUBLIC)
def test_public_addresses(text):
    assert is_public(text)


@pytest.mark.parametrize("text", PRIVATE)
def test_everything_else_is_not(text):
    assert not is_public(text)


@given(st.ip_addresses())
def test_what_python_calls_private_is_never_public(address):
    documentation = ("192.0.2.", "198.51.100.", "203.0.113.")
    if not ip_address(address).is_global and not str(address).startswith(documentation):
        assert not is_public(str(address))


def test_the_hosts_own_addresses_are_known_without_sending_anything():
    assert is_here("127.0.0.1")
    assert is_here("127.0.0.2"), "one of several of an interface"
    assert not is_here("203.0.113.77")


@given(st.ip_addresses())
def test_the_firewall_the_proxy_and_the_platforms_own_calls_judge_alike(settings_without_networks, address):
    text = str(address)
    if address.version == 4:
        assert is_public(text) is not within(address, NOT_PUBLIC_IPV4)
    assert outside.permitted(text, 443) is (is_public(text) and not within(address, DOCUMENTATION))


@pytest.fixture(scope="module")
def settings_without_networks():
    with override_settings(ENDPOINT_NETWORKS=()):
        yield
