from __future__ import annotations

import pytest

from accounts.clients import client_name

LINUX, MAC = "Mozilla/5.0 (X11; Linux x86_64) ", "Mozilla/5.0 (Macintosh; Intel Mac OS X 10_15_7) "
CHROME = "AppleWebKit/537.36 (KHTML, like Gecko) Chrome/130.0.0.0 Safari/537.36"


@pytest.mark.parametrize(
    ("said", "name"),
    [
        (LINUX + CHROME, "Chrome on Linux"),
        (MAC + CHROME + " Edg/130.0", "Edge on macOS"),
        (MAC + "AppleWebKit/605.1.15 (KHTML, like Gecko) Version/17.5 Safari/605.1.15", "Safari on macOS"),
        ("Mozilla/5.0 (Windows NT 10.0; rv:130.0) Gecko/20100101 Firefox/130.0", "Firefox on Windows"),
        ("Mozilla/5.0 (Linux; Android 14) " + CHROME, "Chrome on Android"),
        ("curl/8.5.0", "curl"),
        ("<script>x</script>", "<script>x</script>"),
        ("", ""),
    ],
)
def test_a_client_is_told_by_program_and_system(said, name):
    assert client_name(said) == name
