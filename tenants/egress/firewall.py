"""The one door to the host's firewall. Only chains of this installation are written, and the jumps to them."""

from __future__ import annotations

import hashlib
import logging
import re
import subprocess
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from ipaddress import IPv4Address
from pathlib import Path

from django.conf import settings

from tenants.egress.rules import Chain, chains, chains6, removal_text, restore_text
from tenants.states import Egress
from zcplatform.lib import child, locks
from zcplatform.lib.errors import Misconfigured
from zcplatform.lib.home import run_folder

log = logging.getLogger(__name__)

LIMIT_S = 20
TURN_S = 30.0
WAIT_S = "5"  # for the lock that old versions of iptables share
SHARED_NETWORK = "processes share the host's network"
FRESH_S = 30.0  # what was applied so long ago is taken for granted: the sweep applies it again
CAP_NET_ADMIN = 12
SYSTEM_PATH = "/usr/local/sbin:/usr/sbin:/sbin:/usr/local/bin:/usr/bin:/bin"
# Where systemd-resolved's stub hides the real ones; Docker looks there too.
RESOLV_CONF = (Path("/etc/resolv.conf"), Path("/run/systemd/resolve/resolv.conf"))


class Failed(Exception):
    """iptables said no; the text is its first line."""


def unenforceable(docker_host: str) -> str:
    """Why this process can't fence the tenants of the engine at ``docker_host``; empty when it can."""
    if not docker_host.startswith("unix://"):
        return "the engine is on another host"
    if not _may_change_it():
        return "the platform neither runs as root nor has CAP_NET_ADMIN"
    if _program("iptables-restore") is None:
        return "iptables is not installed"
    return ""


def enforce(mode: str, docker_host: str) -> None:
    """Have the rules stand before an agent of this mode is made. Misconfigured ``egress_unenforced`` when they can't,
    for every mode but ``open``, unless ALLOW_UNENFORCED_EGRESS is set."""
    why = unenforceable(docker_host)
    refuse_unless_open(mode, why or ("" if _is_fresh() else apply()))


def refuse_unless_open(mode: str, why: str) -> None:
    """Misconfigured ``egress_unenforced`` when there is a reason why ``mode`` can't be enforced."""
    if why and mode != Egress.OPEN and not settings.ALLOW_UNENFORCED_EGRESS:
        raise Misconfigured(
            f"The mode “{mode}” of the network can't be enforced: {why}. Mend that, choose “open”, or set "
            "ZCPLATFORM_ALLOW_UNENFORCED_EGRESS=1.",
            type="egress_unenforced",
        )


def apply() -> str:
    """Make the host's firewall hold exactly our rules; says why not when it can't be done. Idempotent."""
    try:
        with _alone():
            for tool, wanted in _families():
                hooks = [(parent, chain) for parent, chain, stands in _hooks(tool, wanted) if not stands]
                _restore(tool, restore_text(wanted, hooks))
            _stamp().write_text(_digest())
    except (Failed, OSError) as error:
        log.error("the firewall could not be set", extra={"error": str(error)})
        return str(error)
    return ""


def remove() -> None:
    """Take every rule of this installation away; others' stay. Without root there are none."""
    if not _may_change_it() or _program("iptables-restore") is None:
        return
    with _alone():
        _stamp().unlink(missing_ok=True)
        for tool, wanted in _families():
            listed = _list(tool)
            names = [chain.name for chain in wanted if f"-N {chain.name}" in listed]
            jumps = [tuple(found) for line in listed for found in re.findall(r"^-A (\S+) -j (\S+)$", line)]
            _restore(tool, removal_text(names, [jump for jump in jumps if jump[1] in names]))


def differences() -> list[str]:
    """What of our rules does not stand as it should, a line each. Asks iptables rule by rule: its own spelling of a
    rule differs from version to version."""
    found = []
    for tool, wanted in _families():
        listed = _list(tool)
        for chain in wanted:
            lines = sum(line.startswith(f"-A {chain.name} ") for line in listed)
            if lines != len(chain.rules) or not all(_stands(tool, chain.name, rule) for rule in chain.rules):
                found.append(f"{tool}: the rules of {chain.name} are not ours")
        found += [f"{tool}: {p} does not jump to {c} first" for p, c, stands in _hooks(tool, wanted) if not stands]
    return found


def resolvers() -> list[str]:
    """The host's IPv4 resolvers that a container asks itself; one on the loopback is asked by the engine for it."""
    found: list[str] = []
    for path in RESOLV_CONF:
        text = path.read_text(errors="replace") if path.is_file() else ""
        for word in re.findall(r"^\s*nameserver\s+([0-9.]+)\s*$", text, re.MULTILINE):
            try:
                address = IPv4Address(word)
            except ValueError:
                continue
            if not (address.is_loopback or address.is_unspecified) and word not in found:
                found.append(word)
    return found


def _may_change_it() -> bool:
    status = Path("/proc/self/status").read_text()
    found = re.search(r"^CapEff:\s*([0-9a-f]+)$", status, re.MULTILINE)
    return bool(found and int(found[1], 16) >> CAP_NET_ADMIN & 1)


def _stamp() -> Path:
    """What every process of the installation sees of the last application: its time, and of which rules."""
    return Path(settings.HOME) / "run" / "firewall.applied"


def _digest() -> str:
    return hashlib.sha256("".join(restore_text(wanted, ()) for _, wanted in _families()).encode()).hexdigest()


def _is_fresh() -> bool:
    try:
        return 0 <= time.time() - _stamp().stat().st_mtime < FRESH_S and _stamp().read_text() == _digest()
    except OSError:
        return False


def _families() -> list[tuple[str, tuple[Chain, ...]]]:
    """Each tool that is there with its chains; a host without ip6tables has no IPv6 to fence."""
    four = chains(
        settings.INSTANCE, pool=settings.SUBNET_POOL, proxy_port=settings.EGRESS_PROXY_PORT, resolvers=resolvers()
    )
    families = [("iptables", four), ("ip6tables", chains6(settings.INSTANCE))]
    return [(tool, wanted) for tool, wanted in families if _program(tool)]


def _hooks(tool: str, wanted: Sequence[Chain]) -> Iterator[tuple[str, str, bool]]:
    """(parent, chain, whether the parent jumps there before anything else) for the first parent that exists."""
    listed = _list(tool)
    for chain in (chain for chain in wanted if chain.parents):
        parent = next(name for name in chain.parents if f"-N {name}" in listed or name in ("INPUT", "FORWARD"))
        rules = [line for line in listed if line.startswith(f"-A {parent} ")]
        yield parent, chain.name, _before_others(rules, parent, chain.name)


def _before_others(rules: list[str], parent: str, chain: str) -> bool:
    """Other installations' jumps of the same kind may stand before ours: they let everything of ours pass."""
    kin = re.compile(rf"-A {parent} -j ZC[0-9A-F]{{7}}-(?:FORWARD|INPUT)")
    for rule in rules:
        if rule == f"-A {parent} -j {chain}":
            return True
        if not kin.fullmatch(rule):
            return False
    return False


def _stands(tool: str, chain: str, rule: Sequence[str]) -> bool:
    return _run([tool, "-w", WAIT_S, "-C", chain, *rule]).returncode == 0


def _list(tool: str) -> list[str]:
    done = _run([tool, "-w", WAIT_S, "-S"])
    if done.returncode:
        raise Failed(_first_line(done.stderr))
    return done.stdout.splitlines()


def _restore(tool: str, text: str) -> None:
    done = _run([f"{tool}-restore", "-w", WAIT_S, "--noflush"], text)
    if done.returncode:
        raise Failed(_first_line(done.stderr))


def _run(argv: Sequence[str], text: str = "") -> subprocess.CompletedProcess[str]:
    program = _program(argv[0])
    if program is None:
        raise Failed(f"{argv[0]} is not installed")
    try:
        return subprocess.run(
            [program, *argv[1:]],
            input=text,
            capture_output=True,
            text=True,
            timeout=LIMIT_S,
            check=False,
            env={"PATH": SYSTEM_PATH, "LC_ALL": "C"},
        )
    except subprocess.TimeoutExpired as error:
        raise Failed(f"{argv[0]} did not end within {LIMIT_S} s") from error


def _program(name: str) -> str | None:
    return child.find(name, path=SYSTEM_PATH)


def _first_line(text: str) -> str:
    return next(iter(text.strip().splitlines()), "iptables failed without a word")


@contextmanager
def _alone() -> Iterator[None]:
    """One process of this installation at a time: between looking for a jump and setting it nobody else sets one."""
    busy = Failed(f"another process has been at it for more than {TURN_S:.0f} s")
    with locks.held(run_folder(Path(settings.HOME)) / "firewall.lock", busy=busy, wait_s=TURN_S):
        yield
