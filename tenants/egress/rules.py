"""The firewall's rules of one installation: a pure function, in the words of ``iptables-save``.

They go by the names of the tenants' bridges, so they are the same whatever networks and tenants there are: a
container is behind them from its first packet, and nothing has to be changed when one comes or goes.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from tenants.egress.bridges import LETTERS, mark
from tenants.states import Egress
from zcplatform.lib.addresses import NOT_PUBLIC_IPV4

Rule = tuple[str, ...]
REPLIES: Rule = ("-m", "conntrack", "--ctstate", "RELATED,ESTABLISHED", "-j", "RETURN")
# A reset, since the kernel sends only so many ICMP messages a second: an agent should not wait for what it can't have.
RESET: Rule = ("-p", "tcp", "-j", "REJECT", "--reject-with", "tcp-reset")
REJECT: Rule = ("-j", "REJECT", "--reject-with", "icmp-admin-prohibited")
REJECT6: Rule = ("-j", "REJECT", "--reject-with", "icmp6-adm-prohibited")


@dataclass(frozen=True)
class Chain:
    """A chain of our own, and which of others' chains is to jump to it: the first of ``parents`` that exists."""

    name: str
    parents: tuple[str, ...]
    rules: tuple[Rule, ...]


def forward_chain(instance: str) -> str:
    return f"{mark(instance).upper()}-FORWARD"


def input_chain(instance: str) -> str:
    return f"{mark(instance).upper()}-INPUT"


def refuse_chain(instance: str) -> str:
    return f"{mark(instance).upper()}-REFUSE"


def chains(instance: str, *, pool: str, proxy_port: int, resolvers: Iterable[str]) -> tuple[Chain, ...]:
    """IPv4. What comes from a bridge of ours may go on to public addresses in the mode ``open`` and nowhere in the
    others. Of this host it reaches the proxy, and in the mode ``open`` the host's own resolvers."""
    ours, is_open = f"{mark(instance)}+", f"{mark(instance)}{LETTERS[Egress.OPEN]}+"
    asking = tuple(_dns(is_open, resolver) for resolver in resolvers)
    dns = tuple(rule for pair in asking for rule in pair)
    refuse: Rule = ("-j", refuse_chain(instance))
    private = tuple(("-d", str(network), "-i", is_open, *refuse) for network in NOT_PUBLIC_IPV4)
    start: tuple[Rule, ...] = (("!", "-i", ours, "-j", "RETURN"), REPLIES)
    onward = (*start, *dns, ("-d", pool, *refuse), *private, ("-i", is_open, "-j", "RETURN"), refuse)
    inward = (*start, *dns, *_proxy(instance, pool, proxy_port), refuse)
    return (
        Chain(refuse_chain(instance), (), (RESET, REJECT)),
        Chain(forward_chain(instance), ("DOCKER-USER", "FORWARD"), onward),
        Chain(input_chain(instance), ("INPUT",), inward),
    )


def chains6(instance: str) -> tuple[Chain, ...]:
    """IPv6: the tenants' networks have none, and whatever comes from there all the same goes nowhere."""
    rules: tuple[Rule, ...] = (("-i", f"{mark(instance)}+", *REJECT6),)
    return Chain(forward_chain(instance), ("FORWARD",), rules), Chain(input_chain(instance), ("INPUT",), rules)


def _dns(interface: str, resolver: str) -> tuple[Rule, Rule]:
    head = ("-d", f"{resolver}/32", "-i", interface)
    udp: Rule = (*head, "-p", "udp", "-m", "udp", "--dport", "53", "-j", "ACCEPT")
    return udp, (*head, "-p", "tcp", "-m", "tcp", "--dport", "53", "-j", "ACCEPT")


def _proxy(instance: str, pool: str, port: int) -> tuple[Rule, ...]:
    """ACCEPT, not RETURN: a host whose own rules refuse what they don't know has to let it in."""
    proxied = (LETTERS[Egress.GATEWAY], LETTERS[Egress.ALLOWLIST])
    to = ("-p", "tcp", "-m", "tcp", "--dport", str(port), "-j", "ACCEPT")
    return tuple(("-d", pool, "-i", f"{mark(instance)}{letter}+", *to) for letter in proxied)


def restore_text(wanted: Iterable[Chain], hooks: Iterable[tuple[str, str]]) -> str:
    """Input of ``iptables-restore --noflush``: our chains replaced in one step, and the missing ``hooks`` (parent,
    chain) set before everything else in the parent."""
    listed = list(wanted)
    lines = ["*filter", *(f":{chain.name} - [0:0]" for chain in listed)]
    lines += [f"-A {chain.name} {' '.join(rule)}" for chain in listed for rule in chain.rules]
    lines += [f"-I {parent} 1 -j {chain}" for parent, chain in hooks]
    return "\n".join([*lines, "COMMIT", ""])


def removal_text(names: Iterable[str], hooks: Iterable[tuple[str, str]]) -> str:
    """The opposite: every jump in ``hooks`` taken back, then the chains ``names`` emptied and removed."""
    listed = list(names)
    lines = ["*filter", *(f"-D {parent} -j {chain}" for parent, chain in hooks)]
    return "\n".join([*lines, *(f"-F {name}" for name in listed), *(f"-X {name}" for name in listed), "COMMIT", ""])
