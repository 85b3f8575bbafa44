"""The firewall's rules: golden, the same for any number of tenants, and closed where nothing is said."""

from __future__ import annotations

import pytest

from tenants.egress.bridges import mark
from tenants.egress.rules import chains, chains6, removal_text, restore_text
from zcplatform.lib.addresses import NOT_PUBLIC_IPV4

INSTANCE = "abcdef012345"
GOLDEN = """\
*filter
:ZCCE0FC87-REFUSE - [0:0]
:ZCCE0FC87-FORWARD - [0:0]
:ZCCE0FC87-INPUT - [0:0]
-A ZCCE0FC87-REFUSE -p tcp -j REJECT --reject-with tcp-reset
-A ZCCE0FC87-REFUSE -j REJECT --reject-with icmp-admin-prohibited
-A ZCCE0FC87-FORWARD ! -i zcce0fc87+ -j RETURN
-A ZCCE0FC87-FORWARD -m conntrack --ctstate RELATED,ESTABLISHED -j RETURN
-A ZCCE0FC87-FORWARD -d 192.0.2.53/32 -i zcce0fc87o+ -p udp -m udp --dport 53 -j ACCEPT
-A ZCCE0FC87-FORWARD -d 192.0.2.53/32 -i zcce0fc87o+ -p tcp -m tcp --dport 53 -j ACCEPT
-A ZCCE0FC87-FORWARD -d 10.213.0.0/16 -j ZCCE0FC87-REFUSE
-A ZCCE0FC87-FORWARD -d 0.0.0.0/8 -i zcce0fc87o+ -j ZCCE0FC87-REFUSE
-A ZCCE0FC87-FORWARD -d 10.0.0.0/8 -i zcce0fc87o+ -j ZCCE0FC87-REFUSE
-A ZCCE0FC87-FORWARD -d 100.64.0.0/10 -i zcce0fc87o+ -j ZCCE0FC87-REFUSE
-A ZCCE0FC87-FORWARD -d 127.0.0.0/8 -i zcce0fc87o+ -j ZCCE0FC87-REFUSE
-A ZCCE0FC87-FORWARD -d 169.254.0.0/16 -i zcce0fc87o+ -j ZCCE0FC87-REFUSE
-A ZCCE0FC87-FORWARD -d 172.16.0.0/12 -i zcce0fc87o+ -j ZCCE0FC87-REFUSE
-A ZCCE0FC87-FORWARD -d 192.0.0.0/24 -i zcce0fc87o+ -j ZCCE0FC87-REFUSE
-A ZCCE0FC87-FORWARD -d 192.88.99.0/24 -i zcce0fc87o+ -j ZCCE0FC87-REFUSE
-A ZCCE0FC87-FORWARD -d 192.168.0.0/16 -i zcce0fc87o+ -j ZCCE0FC87-REFUSE
-A ZCCE0FC87-FORWARD -d 198.18.0.0/15 -i zcce0fc87o+ -j ZCCE0FC87-REFUSE
-A ZCCE0FC87-FORWARD -d 224.0.0.0/3 -i zcce0fc87o+ -j ZCCE0FC87-REFUSE
-A ZCCE0FC87-FORWARD -i zcce0fc87o+ -j RETURN
-A ZCCE0FC87-FORWARD -j ZCCE0FC87-REFUSE
-A ZCCE0FC87-INPUT ! -i zcce0fc87+ -j RETURN
-A ZCCE0FC87-INPUT -m conntrack --ctstate RELATED,ESTABLISHED -j RETURN
-A ZCCE0FC87-INPUT -d 192.0.2.53/32 -i zcce0fc87o+ -p udp -m udp --dport 53 -j ACCEPT
-A ZCCE0FC87-INPUT -d 192.0.2.53/32 -i zcce0fc87o+ -p tcp -m tcp --dport 53 -j ACCEPT
-A ZCCE0FC87-INPUT -d 10.213.0.0/16 -i zcce0fc87g+ -p tcp -m tcp --dport 3128 -j ACCEPT
-A ZCCE0FC87-INPUT -d 10.213.0.0/16 -i zcce0fc87a+ -p tcp -m tcp --dport 3128 -j ACCEPT
-A ZCCE0FC87-INPUT -j ZCCE0FC87-REFUSE
-I DOCKER-USER 1 -j ZCCE0FC87-FORWARD
COMMIT
"""


def ours(instance=INSTANCE, resolvers=("192.0.2.53",)):
    return chains(instance, pool="10.213.0.0/16", proxy_port=3128, resolvers=resolvers)


def test_the_whole_text_is_golden():
    assert mark(INSTANCE) == GOLDEN.split(":")[1].split("-")[0].lower()
    assert restore_text(ours(), [("DOCKER-USER", "ZCCE0FC87-FORWARD")]) == GOLDEN


def test_every_chain_ends_by_refusing_and_lets_strangers_pass_first():
    for chain in ours()[1:]:
        assert chain.rules[0] == ("!", "-i", f"{mark(INSTANCE)}+", "-j", "RETURN")
        assert chain.rules[-1] == ("-j", ours()[0].name)


def test_only_the_mode_open_goes_out_and_only_after_every_network_that_is_not_public():
    forward = ours()[1].rules
    way_out = forward.index(("-i", f"{mark(INSTANCE)}o+", "-j", "RETURN"))
    refused = {rule[1] for rule in forward[:way_out] if rule[-1] == ours()[0].name}
    assert {str(network) for network in NOT_PUBLIC_IPV4} | {"10.213.0.0/16"} == refused
    passing = [rule for rule in forward if rule[-1] in ("ACCEPT", "RETURN") and "conntrack" not in rule][1:]
    assert all(f"{mark(INSTANCE)}o+" in rule for rule in passing)


def test_a_host_whose_resolvers_are_on_its_loopback_lets_no_dns_pass():
    assert not any("53" in rule for chain in ours(resolvers=()) for rule in chain.rules)


def test_ipv6_goes_nowhere():
    for chain in chains6(INSTANCE):
        assert [rule[:3] for rule in chain.rules] == [("-i", f"{mark(INSTANCE)}+", "-j")]


@pytest.mark.parametrize(("one", "other"), [("customer1", "customer2"), ("abcdef012345", "abcdef012346")])
def test_two_installations_share_no_name(one, other):
    assert {chain.name for chain in ours(one)}.isdisjoint(chain.name for chain in ours(other))
    assert not mark(one).startswith(mark(other))


def test_a_removal_takes_back_every_jump_before_its_chain():
    text = removal_text(["A", "B"], [("INPUT", "A"), ("INPUT", "A")])
    assert text.splitlines() == [
        *("*filter", "-D INPUT -j A", "-D INPUT -j A", "-F A", "-F B", "-X A", "-X B", "COMMIT"),
    ]
