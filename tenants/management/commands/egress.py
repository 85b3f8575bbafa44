from argparse import ArgumentParser
from typing import Any

from tenants.cli import TenantCommand, summary
from tenants.egress import counts, policy
from tenants.egress.hosts import check_hosts
from tenants.egress.services import set_egress
from tenants.models import Run, Tenant
from tenants.states import Egress


def _listed(tenant: Tenant, allow: list[str], forget: list[str]) -> list[str]:
    gone = set(check_hosts(forget))
    return [host for host in check_hosts([*tenant.config.egress_hosts, *allow]) if host not in gone]


class Command(TenantCommand):
    help = (
        "Show or change what a tenant's agent may connect to: every public address, listed hosts, or its model alone."
    )

    def add_arguments(self, parser: ArgumentParser) -> None:
        super().add_arguments(parser)
        parser.add_argument("--mode", choices=[*Egress.values, "default"], help="default: what the plan says")
        parser.add_argument("--allow", metavar="HOST[:PORT]", action="append", default=[], help="add to the list")
        parser.add_argument("--forget", metavar="HOST[:PORT]", action="append", default=[], help="take off the list")

    def act(self, tenant: Tenant, **options: Any) -> bool | None:
        mode, allow, forget = options["mode"], options["allow"], options["forget"]
        if mode is None and not allow and not forget:
            self._show(tenant, as_json=options["json"])
            return None
        hosts = _listed(tenant, allow, forget) if allow or forget else None
        run = set_egress(actor=self.actor, tenant=tenant, mode="" if mode == "default" else mode, hosts=hosts)
        return self._tell(tenant, run, as_json=options["json"])

    def _tell(self, tenant: Tenant, run: Run | None, *, as_json: bool) -> bool | None:
        if run is not None:
            return self.follow(run, as_json=as_json)
        self.applies_later(tenant, as_json=as_json)
        return None

    def _show(self, tenant: Tenant, *, as_json: bool) -> None:
        mode, through = policy.mode_of(tenant), policy.policy_of(tenant).targets
        counted = counts.read().get(str(tenant.public_id), {})
        facts = {"mode": mode, "hosts": tenant.config.egress_hosts, "through": [str(t) for t in through]}
        if as_json:
            self.print_json(summary(tenant, None) | {"egress": facts | {"counts": counted}})
            return
        self.stdout.write(f"{tenant.slug}: {mode} ({Egress(mode).label})")
        if mode != Egress.OPEN:
            self.stdout.write("  through the proxy: " + (", ".join(facts["through"]) or "nothing"))
        for name, value in counted.items():
            self.stdout.write(f"  {name:<9} {value}")
