"""Callers from the whole of IPv6, in a network of their own: run as a file by a test, inside ``unshare --net``.

There the loopback bears an address for each caller. Serves the platform behind Caddy on one more and prints, as JSON,
the statuses that callers of one /64 got, and those of another.
"""

from __future__ import annotations

import json
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx

from tests.caddy import free_port
from tests.zcplatform.serving import Home, wait_for

PLATFORM = "2001:db8::1"
CALLERS = [f"2001:db8:1:2:{n:x}::{n:x}" for n in range(1, 41)]
"""Forty of one /64."""
OTHERS = [f"2001:db8:1:3::{n:x}" for n in range(1, 5)]


def ask(url: str, caller: str) -> int:
    """The status of a request for a code, from this address."""
    transport = httpx.HTTPTransport(local_address=caller)
    with httpx.Client(transport=transport, timeout=60, headers={"Host": "localhost"}) as client:
        email = f"{caller.replace(':', '-')}@example.com"
        return client.post(f"{url}/api/auth/otp/request", json={"email": email}).status_code


def healthy(url: str) -> bool:
    try:
        return httpx.get(f"{url}/health", headers={"Host": "localhost"}).status_code == 200
    except httpx.TransportError:
        return False


def main(folder: Path) -> None:
    adds = [f"address add {address}/128 dev lo nodad" for address in (PLATFORM, *CALLERS, *OTHERS)]
    subprocess.run(["ip", "-batch", "-"], input="\n".join(["link set lo up", *adds]), text=True, check=True)
    port, public = free_port(), free_port()
    url = f"http://[{PLATFORM}]:{public}"
    more = {"CADDY_LISTEN": f"[{PLATFORM}]:{public}", "CADDY_HTTPS": "0", "WEB_WORKERS": "4", "PORT": str(port)}
    home = Home(folder, ROUTER="caddy", **more)
    with home.serve("--no-workers") as serve:
        serve.wait_until_said("router: caddy", "web on")
        assert home.manage("reconcile").returncode == 0
        wait_for(lambda: healthy(url), "Caddy answers")
        with ThreadPoolExecutor(8) as pool:
            told = [sorted(pool.map(lambda caller: ask(url, caller), group)) for group in (CALLERS, OTHERS)]
    print(json.dumps(told))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
