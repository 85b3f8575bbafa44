"""The command ``egress``, and what sweep, ``serve`` and ``doctor`` do about the firewall."""

from __future__ import annotations

import pytest

from tenants import reconcile
from tenants.egress import firewall, upkeep
from tests.commands import manage
from tests.factories import AgentConfigFactory, NodeFactory
from zcplatform import doctor
from zcplatform.management.commands.serve import Command as Serve


def test_it_shows_the_mode_the_list_and_what_passes(world):
    tenant = world.tenant()
    assert manage("egress", tenant.slug).out.startswith("acme: open (every public address)")
    done = manage("egress", tenant.slug, "--mode", "allowlist", "--allow", "API.example.com", "--allow", "b.example:80")
    assert "takes effect at the next start" in done.out
    shown = manage("egress", tenant.slug, "--json").json["egress"]
    assert (shown["mode"], shown["hosts"]) == ("allowlist", ["api.example.com", "b.example:80"])
    assert shown["through"] == ["api.example.com", "b.example:80"]
    assert "b.example:80" in manage("egress", tenant.slug).out
    manage("egress", tenant.slug, "--forget", "B.example:80", "--mode", "default")
    shown = manage("egress", tenant.slug, "--json").json["egress"]
    assert (shown["mode"], shown["hosts"]) == ("open", ["api.example.com"])


def test_a_running_tenant_is_changed_at_once(world):
    world.tenant(deploy=True)
    done = manage("egress", "acme", "--mode", "gateway", "--json")
    assert done.json["run"]["status"] == "succeeded"
    assert [agent.spec.egress for agent in world.agents()] == ["gateway"]


@pytest.mark.parametrize("argv", [("--allow", "*"), ("--forget", "10.0.0.1"), ("--mode", "closed")])
def test_what_is_no_host_or_mode_is_refused(world, argv):
    world.tenant()
    assert manage("egress", "acme", *argv).code != 0


@pytest.fixture
def engine(db, monkeypatch):
    """A Docker node; what would be done to the firewall is written down."""
    done = []
    node = NodeFactory(name="engine", runtime="docker")
    monkeypatch.setattr(firewall, "unenforceable", lambda host: "")
    monkeypatch.setattr(upkeep.bridges, "present", lambda: iter(["one"]))
    monkeypatch.setattr(firewall, "apply", lambda: done.append("apply") or "")
    monkeypatch.setattr(firewall, "differences", lambda: ["iptables: the rules of X are not ours"])
    node.done = done
    return node


def test_the_sweep_sets_the_rules_again(engine, world, monkeypatch):
    monkeypatch.setattr(reconcile, "_sweep_node", lambda node: 0)
    reconcile.sweep()
    assert engine.done == ["apply"]
    monkeypatch.setattr(upkeep.bridges, "present", lambda: iter([]))
    reconcile.sweep()
    assert engine.done == ["apply"], "what teardown took away does not come back"
    monkeypatch.setattr(upkeep.bridges, "present", lambda: iter(["one"]))
    engine.state = "disabled"
    engine.save()
    reconcile.sweep()
    assert engine.done == ["apply"], "there is nothing to fence"


def test_serve_runs_the_proxy_where_it_has_networks_to_serve(engine, monkeypatch):
    def programs():
        return [program.name for program in Serve()._programs(["workers"], "127.0.0.1", 0)]

    assert programs() == ["runs", "sweeps", "egress"]
    monkeypatch.setattr(firewall, "unenforceable", lambda host: "the platform does not run as root")
    assert programs() == ["runs", "sweeps"]


def found():
    return [(f.level, f.what) for f in doctor.examine() if f.check == "egress"]


def test_doctor_tells_what_is_not_enforced(engine, monkeypatch):
    assert found() == [("error", "iptables: the rules of X are not ours")]
    monkeypatch.setattr(firewall, "differences", list)
    assert found() == [("ok", "what agents may connect to is enforced")]
    AgentConfigFactory(tenant__node=engine, tenant__slug="fenced", tenant__slot=1, egress="gateway")
    process = NodeFactory(name="process", runtime="process")
    AgentConfigFactory(tenant__node=process, tenant__slug="unfenced", tenant__slot=1, egress="gateway")
    AgentConfigFactory(tenant__node=process, tenant__slug="open", tenant__slot=2)
    assert found() == [
        (
            "warning",
            "Node process: agents may connect to anything, since processes share the host's network.",
        ),
        ("error", "unfenced: its mode “gateway” is not enforced."),
    ]
    monkeypatch.setattr(firewall, "unenforceable", lambda host: "the platform does not run as root")
    assert found()[0] == (
        "warning",
        "Node engine: agents may connect to anything, since the platform does not run as root.",
    )
    assert {tenant.slug for tenant in upkeep.unfenced()} == {"fenced", "unfenced"}


@pytest.mark.parametrize(
    ("value", "parsed"),
    [
        ("", {"": "open"}),
        ("gateway", {"": "gateway"}),
        ("allowlist, free=gateway", {"": "allowlist", "free": "gateway"}),
    ],
)
def test_the_default_is_read_by_plan(monkeypatch, value, parsed):
    from zcplatform.lib import env

    monkeypatch.setenv("ZCPLATFORM_EGRESS_DEFAULT", value)
    assert env.by_plan("EGRESS_DEFAULT", "open", ("open", "allowlist", "gateway")) == parsed


@pytest.mark.parametrize(
    ("name", "value"),
    [
        *(("EGRESS_DEFAULT", value) for value in ("wide", "free=", "free=wide", "=")),
        *(("EGRESS_INTERNAL", value) for value in ("model.lan", ":80", "model.lan:0", "model.lan:http", "m:70000")),
    ],
)
def test_a_bad_value_stops_the_start(monkeypatch, name, value):
    from django.core.exceptions import ImproperlyConfigured

    from zcplatform.lib import env

    monkeypatch.setenv(f"ZCPLATFORM_{name}", value)
    with pytest.raises(ImproperlyConfigured, match=name):
        env.host_ports(name) if name == "EGRESS_INTERNAL" else env.by_plan(name, "open", ("open", "gateway"))


def test_an_internal_target_is_a_pair(monkeypatch):
    from zcplatform.lib import env

    monkeypatch.setenv("ZCPLATFORM_EGRESS_INTERNAL", "Model.lan:11434")
    assert env.host_ports("EGRESS_INTERNAL") == {("model.lan", 11_434)}
