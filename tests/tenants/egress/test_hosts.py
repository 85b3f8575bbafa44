"""The allow-list's entries: what is one, and what each lets through."""

from __future__ import annotations

import pytest

from tenants.egress.hosts import MAX_HOSTS, Target, check_hosts, parse
from zcplatform.lib.errors import InvalidField


@pytest.mark.parametrize(
    ("entry", "target"),
    [
        ("api.example.com", Target("api.example.com", 443)),
        (" API.Example.COM. ", Target("api.example.com", 443)),
        ("api.example.com:8443", Target("api.example.com", 8443)),
        ("*.example.com", Target("*.example.com", 443)),
        ("xn--bcher-kva.example", Target("xn--bcher-kva.example", 443)),
        ("_dmarc.example.com", Target("_dmarc.example.com", 443)),
        ("11.1.1.1:80", Target("11.1.1.1", 80)),
    ],
)
def test_an_entry_has_one_spelling(entry, target):
    assert parse(entry) == target
    assert parse(str(target)) == target


@pytest.mark.parametrize(
    "entry",
    [
        *("", "*", "*.com", "a.*.com", "*a.example.com", "**.example.com", "*.*.example.com", "com", "localhost"),
        *("a..example.com", ".example.com", "-a.example.com", "a-.example.com", "a b.example.com", "bücher.example"),
        *("http://example.com", "example.com/path", "user@example.com", "example.com:0", "example.com:65536"),
        *("example.com:", "example.com:http", "example.com:80:80", "[2606:4700::1]:443", "2606:4700::1"),
        *("127.0.0.1", "10.0.0.1:443", "169.254.169.254", "1.1.1", "999.1.1.1", "0x7f000001", "example.123"),
        *("a" * 64 + ".example.com", ".".join(["a" * 60] * 5), "example.com\n", "exam\nple.com", "*.10.0.0.1"),
    ],
)
def test_what_is_no_entry_is_refused_with_the_field(entry):
    if entry == "example.com\n":
        assert parse(entry) == Target("example.com", 443), "surrounding space does not count"
        return
    with pytest.raises(InvalidField) as refused:
        parse(entry)
    assert refused.value.details["field"] == "hosts"


@pytest.mark.parametrize(
    ("entry", "host", "port", "covered"),
    [
        ("api.example.com", "api.example.com", 443, True),
        ("api.example.com", "api.example.com", 80, False),
        ("api.example.com", "xapi.example.com", 443, False),
        ("api.example.com", "api.example.com.evil.test", 443, False),
        ("*.example.com", "a.example.com", 443, True),
        ("*.example.com", "a.b.example.com", 443, True),
        ("*.example.com", "example.com", 443, False),
        ("*.example.com", ".example.com", 443, False),
        ("*.example.com", "evilexample.com", 443, False),
        ("*.example.com", "a.example.com.evil.test", 443, False),
    ],
)
def test_what_an_entry_covers(entry, host, port, covered):
    assert parse(entry).covers(host, port) is covered


def test_a_list_is_bounded_and_without_repetitions():
    assert check_hosts(["A.example.com", "a.example.com:443", "b.example.com"]) == ["a.example.com", "b.example.com"]
    with pytest.raises(InvalidField, match=str(MAX_HOSTS)):
        check_hosts([f"h{n}.example.com" for n in range(MAX_HOSTS + 1)])
    for wrong in ("a.example.com", [1], {"a": 1}, None):
        with pytest.raises(InvalidField):
            check_hosts(wrong)


def test_a_host_that_exists_only_elsewhere_is_refused_with_what_to_write():
    with pytest.raises(InvalidField, match="in your network"):
        check_hosts(["host.docker.internal"])
