import json
from argparse import ArgumentParser
from datetime import timedelta
from typing import Any

import httpx
from django.core.management.base import CommandError

from tenants import access_tokens
from tenants.cli import TenantCommand
from tenants.models import Tenant
from tenants.routing import router
from zcplatform.lib import clock
from zcplatform.lib.errors import BadUpstream, DependencyDown

LIFETIME = timedelta(seconds=60)
TIMEOUT_S = 60.0


class Command(TenantCommand):
    help = "Send one message through the tenant's own address and print the answer."

    def add_arguments(self, parser: ArgumentParser) -> None:
        super().add_arguments(parser)
        parser.add_argument("text")
        parser.add_argument("--stream", action="store_true", help="print the answer as it comes")

    def act(self, tenant: Tenant, **options: Any) -> None:
        if options["stream"] and options["json"]:
            raise CommandError("--stream prints text as it comes; use it without --json.", returncode=2)
        row, token = access_tokens.issue(
            actor=self.actor, tenant=tenant, name="chat command", expires_at=clock.now() + LIFETIME
        )
        body = {"messages": [{"role": "user", "content": options["text"]}], "stream": options["stream"]}
        base, headers = router().connect(tenant.slug)
        headers = {**headers, "Authorization": f"Bearer {token.reveal()}"}
        # The connection goes to the loopback; the certificate is the tenant's.
        name = {"sni_hostname": headers["Host"].rpartition(":")[0] or headers["Host"]} if "Host" in headers else {}
        try:
            with (
                httpx.Client(timeout=TIMEOUT_S, trust_env=False) as client,
                client.stream(
                    "POST", f"{base}/v1/chat/completions", json=body, headers=headers, extensions=name
                ) as answer,
            ):
                self._print(answer, **options)
        except httpx.HTTPError as error:
            raise DependencyDown(f"The tenant's address does not answer: {type(error).__name__}.") from error
        finally:
            access_tokens.revoke(actor=self.actor, token=row)

    def _print(self, answer: httpx.Response, **options: Any) -> None:
        if answer.status_code != 200:
            raise BadUpstream(_message(answer.read(), answer.status_code))
        if not options["stream"]:
            reply = json.loads(answer.read())
            return self.print_json(reply) if options["json"] else self.stdout.write(_text(reply, "message"))
        for line in answer.iter_lines():
            if line.startswith("data: ") and line != "data: [DONE]":
                self.stdout.write(_text(json.loads(line[6:]), "delta"), ending="")
                self.stdout.flush()
        self.stdout.write("")
        return None


def _text(reply: dict[str, Any], key: str) -> str:
    choices = reply.get("choices") or [{}]
    return choices[0].get(key, {}).get("content") or ""


def _message(body: bytes, status: int) -> str:
    try:
        return json.loads(body)["error"]["message"]
    except (ValueError, KeyError, TypeError):
        return f"The tenant's address answered with status {status}."
