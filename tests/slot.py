"""The part of the machine that one process of the suite has to itself: ports, users and networks.

There are thirty parts. One is held by a name in the kernel's list of abstract sockets, which goes with the process that
bound it, however that ends. So neither two workers of a run nor two runs ever share one. The processes that a test
starts find the number in ``ZC_TEST_SLOT``.
"""

from __future__ import annotations

import os
import socket

COUNT = 30
FIRST, PORTS = 20_000, 400  # below those that the kernel gives to whoever asks for any
_held: list[socket.socket] = []


def hold(number: int) -> socket.socket | None:
    """What keeps this part until it is closed; None when another process has it."""
    holder = socket.socket(socket.AF_UNIX)
    try:
        holder.bind(f"\0zcplatform-tests-{number}")
    except OSError:
        holder.close()
        return None
    return holder


def take() -> int:
    """The number of a part that nobody has, held until this process ends. A part is passed over while somebody listens
    there: an agent of a run that was killed may still."""
    for number in reversed(range(COUNT)):
        if holder := hold(number):
            if is_quiet(number):
                _held.append(holder)
                return number
            holder.close()
    raise RuntimeError(f"All {COUNT} parts of this machine are taken by processes of this suite, or by what they left.")


def is_quiet(number: int) -> bool:
    """True when nobody listens on the loopback's ports of this part."""
    for port in range(FIRST + number * PORTS, FIRST + (number + 1) * PORTS):
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                return False
    return True


def worker() -> str:
    """Which of the run's workers this process is, or belongs to; empty without workers."""
    return os.environ.get("PYTEST_XDIST_WORKER", "")


# Another worker than the one that set it up: a worker inherits the environment of the process that started it.
ANEW = os.environ.get("ZC_TEST_WORKER") != worker()
if ANEW:
    os.environ |= {"ZC_TEST_WORKER": worker(), "ZC_TEST_SLOT": str(take())}
NUMBER = int(os.environ["ZC_TEST_SLOT"])

_first = FIRST + NUMBER * PORTS
PORT, LISTEN = _first, _first + 1
ANY = (_first + 10, _first + 199)
IN_MEMORY = (_first + 200, _first + 299)
PROCESSES = (_first + 300, _first + 349)
CONTAINERS = (_first + 350, _first + 399)

UIDS = (200_000 + NUMBER * 1_000, 200_000 + NUMBER * 1_000 + 999)
OTHER_UIDS = (300_000 + NUMBER * 1_000, 300_000 + NUMBER * 1_000 + 999)

NETWORKS = f"10.{150 + NUMBER}.0.0/17"
OTHER_NETWORKS = f"10.{150 + NUMBER}.128.0/17"


def text(first_and_last: tuple[int, int]) -> str:
    """A range as the settings want it."""
    return "{}-{}".format(*first_and_last)


PREFIX = f"zct-{os.getpid()}"  # of containers and networks

# What keeps an installation under test apart from all others on the machine.
APART = {
    "ZCPLATFORM_PORT_RANGE": text(PROCESSES),
    "ZCPLATFORM_UID_RANGE": text(OTHER_UIDS),
    "ZCPLATFORM_SUBNET_POOL": OTHER_NETWORKS,
    "ZCPLATFORM_CONTAINER_PREFIX": PREFIX,
}
SERVED = {"ZCPLATFORM_PORT": str(PORT), "ZCPLATFORM_CADDY_LISTEN": f"127.0.0.1:{LISTEN}"}
