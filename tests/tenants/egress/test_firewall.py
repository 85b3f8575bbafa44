"""The door to the firewall, with the real iptables: applied, mended, taken away; strangers' rules stay."""

from __future__ import annotations

import subprocess
import threading

import pytest

from tenants.egress import firewall
from tenants.egress.bridges import mark
from tenants.egress.rules import forward_chain, input_chain
from tests import slot
from zcplatform.lib.errors import Misconfigured

INSTANCE = f"firewalltest{slot.NUMBER:02}"
STRANGER = f"zct-stranger{slot.NUMBER}"


def listing(tool="iptables"):
    return subprocess.run([tool, "-S"], capture_output=True, text=True, check=True).stdout.splitlines()


def ours(tool="iptables"):
    return [line for line in listing(tool) if mark(INSTANCE).upper() in line]


def iptables(*words, tool="iptables"):
    subprocess.run([tool, *words], check=True, capture_output=True)


@pytest.fixture
def installation(settings, tmp_path):
    settings.INSTANCE, settings.HOME, settings.ALLOW_UNENFORCED_EGRESS = INSTANCE, tmp_path, False
    yield
    firewall.remove()
    assert ours() == ours("ip6tables") == []


@pytest.fixture
def strangers(installation):
    """Somebody's rules in the chains that we jump from."""
    parents = [parent for parent in ("DOCKER-USER", "INPUT") if f"-N {parent}" in listing() or parent == "INPUT"]
    rules = [(parent, "-i", STRANGER, "-j", "DROP") for parent in parents]
    for rule in rules:
        iptables("-I", *rule)
    yield lambda: [line for line in listing() if STRANGER in line]
    for rule in rules:
        iptables("-D", *rule)


@pytest.mark.root
def test_applied_twice_and_by_two_at_once_is_applied_once(strangers):
    before = strangers()
    threads = [threading.Thread(target=firewall.apply) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert firewall.apply() == ""
    assert firewall.differences() == []
    jumps = [line for line in ours() if line.startswith(("-A DOCKER-USER", "-A FORWARD", "-A INPUT"))]
    assert sorted(line.rpartition(" ")[2] for line in jumps) == [forward_chain(INSTANCE), input_chain(INSTANCE)]
    assert strangers() == before
    assert ours("ip6tables") != []


@pytest.mark.root
@pytest.mark.parametrize(
    "harm",
    [
        ("-F", forward_chain(INSTANCE)),
        ("-D", "INPUT", "-j", input_chain(INSTANCE)),
        ("-I", input_chain(INSTANCE), "-j", "ACCEPT"),
        ("-D", forward_chain(INSTANCE), "1"),
    ],
)
def test_what_somebody_changed_is_told_and_mended(strangers, harm):
    firewall.apply()
    iptables(*harm)
    assert firewall.differences() != []
    assert firewall.apply() == ""
    assert firewall.differences() == []


@pytest.mark.root
def test_a_rule_that_somebody_puts_before_ours_is_told_and_overtaken(installation):
    firewall.apply()
    rule = ("INPUT", "-i", STRANGER, "-j", "ACCEPT")
    iptables("-I", *rule)
    try:
        assert firewall.differences() == [f"iptables: INPUT does not jump to {input_chain(INSTANCE)} first"]
        firewall.apply()
        assert firewall.differences() == []
    finally:
        iptables("-D", *rule)


@pytest.mark.root
def test_removal_leaves_strangers_alone_and_may_be_repeated(strangers):
    before = strangers()
    firewall.apply()
    firewall.apply()
    iptables("-I", "INPUT", "-j", input_chain(INSTANCE))
    firewall.remove()
    firewall.remove()
    assert ours() == ours("ip6tables") == []
    assert strangers() == before


@pytest.mark.root
def test_a_change_of_the_settings_changes_the_rules_in_place(installation, settings):
    firewall.apply()
    settings.EGRESS_PROXY_PORT = 4_321
    assert firewall.differences() != []
    firewall.apply()
    assert any("--dport 4321" in line for line in ours())
    assert not any("--dport 3128" in line for line in ours())


@pytest.mark.root
def test_what_another_process_took_away_is_set_again_before_the_next_agent(installation):
    firewall.enforce("gateway", "unix:///var/run/docker.sock")
    assert ours() != []
    firewall.remove()
    firewall.enforce("open", "unix:///var/run/docker.sock")
    assert firewall.differences() == []


@pytest.mark.parametrize("mode", ["gateway", "allowlist"])
def test_where_it_cant_be_enforced_a_narrow_mode_is_refused(installation, settings, monkeypatch, mode):
    monkeypatch.setattr(firewall, "_may_change_it", lambda: False)
    with pytest.raises(Misconfigured) as refused:
        firewall.enforce(mode, "unix:///var/run/docker.sock")
    assert refused.value.type == "egress_unenforced"
    assert "neither runs as root" in refused.value.message
    firewall.enforce("open", "unix:///var/run/docker.sock")
    settings.ALLOW_UNENFORCED_EGRESS = True
    firewall.enforce(mode, "unix:///var/run/docker.sock")


def test_an_engine_elsewhere_can_not_be_fenced_from_here(installation):
    with pytest.raises(Misconfigured, match="another host"):
        firewall.enforce("gateway", "ssh://node.example.test")


@pytest.mark.root
def test_a_firewall_that_says_no_is_no_enforcement(installation, monkeypatch):
    def refuse(argv, text=""):
        return subprocess.CompletedProcess(argv, 4, "", "iptables: Permission denied.\nmore")

    monkeypatch.setattr(firewall, "_run", refuse)
    with pytest.raises(Misconfigured, match="Permission denied"):
        firewall.enforce("gateway", "unix:///var/run/docker.sock")
    monkeypatch.undo()


def test_resolvers_are_those_that_a_container_asks_itself(monkeypatch, tmp_path):
    first, second = tmp_path / "resolv.conf", tmp_path / "stub"
    first.write_text("nameserver 127.0.0.53\nnameserver 192.0.2.1\n# nameserver 192.0.2.9\nnameserver 300.1.1.1\n")
    second.write_text("nameserver 192.0.2.1\n nameserver 192.0.2.2\nnameserver 2001:db8::1\n")
    monkeypatch.setattr(firewall, "RESOLV_CONF", (first, second, tmp_path / "absent"))
    assert firewall.resolvers() == ["192.0.2.1", "192.0.2.2"]
