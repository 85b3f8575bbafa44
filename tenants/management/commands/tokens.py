from argparse import ArgumentParser
from datetime import datetime, timedelta
from typing import Any

from django.core.management.base import CommandError

from tenants import access_tokens
from tenants.cli import TenantCommand
from tenants.models import AccessToken, Tenant
from tenants.tokens import live
from zcplatform.lib import clock

MAX_DAYS = 3_650


class Command(TenantCommand):
    help = "List a tenant's live access tokens, make one (its value is shown once), or revoke one."

    def add_arguments(self, parser: ArgumentParser) -> None:
        super().add_arguments(parser)
        act = parser.add_mutually_exclusive_group()
        act.add_argument("--issue", metavar="NAME", help="make a token")
        act.add_argument("--revoke", metavar="PREFIX_OR_ID", help="end a token at once")
        parser.add_argument("--expires-days", type=int, metavar="N", help=f"with --issue: 1 to {MAX_DAYS}")

    def act(self, tenant: Tenant, **options: Any) -> None:
        days = options["expires_days"]
        if days is not None and (options["issue"] is None or not 1 <= days <= MAX_DAYS):
            raise CommandError(f"--expires-days is 1 to {MAX_DAYS} and goes with --issue.", returncode=2)
        if options["issue"] is not None:
            return self._issue(tenant, options["issue"], days, as_json=options["json"])
        if options["revoke"] is not None:
            return self._revoke(tenant, options["revoke"], as_json=options["json"])
        return self._list(tenant, as_json=options["json"])

    def _issue(self, tenant: Tenant, name: str, days: int | None, *, as_json: bool) -> None:
        end = clock.now() + timedelta(days=days) if days else None
        token, value = access_tokens.issue(actor=self.actor, tenant=tenant, name=name, expires_at=end)
        if as_json:
            self.print_json(_told(token) | {"access_token": value.reveal()})
        else:
            self.stdout.write(f"access token, shown once: {value.reveal()}")

    def _revoke(self, tenant: Tenant, name: str, *, as_json: bool) -> None:
        token = access_tokens.find(tenant, name)
        access_tokens.revoke(actor=self.actor, token=token)
        if as_json:
            token.refresh_from_db()
            self.print_json(_told(token) | {"revoked": token.revoked_at})
        else:
            self.stdout.write(f"{tenant.slug}: token {token.prefix}… ({token.name}) is revoked")

    def _list(self, tenant: Tenant, *, as_json: bool) -> None:
        rows = list(live().filter(tenant=tenant).order_by("pk"))
        if as_json:
            return self.print_json({"tenant": tenant.slug, "tokens": [_told(token) for token in rows]})
        for token in rows:
            dates = (_day(token.created_at), _day(token.last_used_at), _day(token.expires_at))
            self.stdout.write("{}  created {}  last used {}  expires {}  {}".format(token.prefix, *dates, token.name))
        return None if rows else self.stdout.write(f"{tenant.slug} has no access token; make one with --issue NAME")


def _told(token: AccessToken) -> dict[str, Any]:
    return {
        "id": str(token.public_id),
        "prefix": token.prefix,
        "name": token.name,
        "created": token.created_at,
        "last_used": token.last_used_at,
        "expires": token.expires_at,
    }


def _day(moment: datetime | None) -> str:
    return f"{moment:%Y-%m-%d}" if moment else "never"
