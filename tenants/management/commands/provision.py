import getpass
import os
import sys
from argparse import ArgumentParser
from typing import Any

from django.conf import settings
from django.core.management.base import CommandError

from tenants import services
from tenants.channels import CHANNELS
from tenants.cli import TenantCommand, summary
from tenants.configuration import ConfigInput
from zcplatform.lib.redact import SecretStr


class Command(TenantCommand):
    help = "Create a tenant and deploy its agent; prints its address and, once, its access token."

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("name", help="display name; the slug is made from it unless --slug is given")
        parser.add_argument("--slug")
        parser.add_argument("--plan", default="free")
        parser.add_argument("--agent", default="demo", choices=sorted(settings.AGENTS))
        parser.add_argument("--runtime", choices=sorted(settings.RUNTIMES))
        parser.add_argument("--owner", metavar="EMAIL", help="whom to invite as owner")
        parser.add_argument("--provider")
        parser.add_argument("--model")
        parser.add_argument("--base-url")
        parser.add_argument("--provider-key-env", metavar="NAME", help="environment variable that holds the key")
        parser.add_argument(
            "--channel",
            action="append",
            default=[],
            metavar="KIND:FIELD=VALUE,...",
            help="a channel to add; @NAME takes the value from the environment, items of a list are parted by ;",
        )
        parser.add_argument("--no-deploy", action="store_true", help="create it as a draft")
        parser.add_argument("--json", action="store_true", help="print one JSON object")

    def run(self, **options: Any) -> bool | None:
        created = services.create_tenant(
            actor=self.actor,
            name=options["name"],
            slug=options["slug"],
            plan=options["plan"],
            agent=options["agent"],
            runtime=options["runtime"],
            owner=options["owner"],
            config=_config(options),
            deploy_now=not options["no_deploy"],
        )
        token = created.access_token.reveal()
        if not options["json"]:
            self.stdout.write(f"{created.tenant.slug}: created on {created.tenant.node.name}")
            self.stdout.write(f"access token, shown once: {token}")
        if created.run is not None:
            return self.follow(created.run, as_json=options["json"], access_token=token)
        if options["json"]:
            self.print_json(summary(created.tenant, None) | {"access_token": token})
        return None


def _config(options: dict[str, Any]) -> ConfigInput:
    return ConfigInput(
        provider=options["provider"],
        model=options["model"],
        base_url=options["base_url"],
        provider_key=_secret(options["provider_key_env"], options["provider"]),
        channels=tuple(_channel(text) for text in options["channel"]),
    )


def _secret(variable: str | None, provider: str | None) -> SecretStr | None:
    """The key from the environment, or typed in: an argument would stand in the shell's history."""
    if variable is not None:
        return SecretStr(_variable(variable))
    if provider and sys.stdin.isatty():
        return SecretStr(getpass.getpass(f"Key for {provider} (empty: none): ")) or None
    return None


def _channel(text: str) -> tuple[str, dict[str, Any]]:
    kind, _, rest = text.partition(":")
    values: dict[str, Any] = {}
    for pair in filter(None, rest.split(",")):
        name, found, value = pair.partition("=")
        if not found:
            raise CommandError(f"--channel {kind}: “{pair}” is not FIELD=VALUE.", returncode=2)
        if name in values:
            text = f"--channel {kind}: “{name}” stands there twice; the items of a list are parted by semicolons."
            raise CommandError(text, returncode=2)
        values[name] = _value(kind, name, _variable(value[1:]) if value.startswith("@") else value)
    return kind, values


def _value(kind: str, name: str, text: str) -> Any:
    """The text of an argument as the type that the channel's schema gives the field; the schema checks the rest."""
    fields = {field.name: field.type for field in CHANNELS[kind].fields} if kind in CHANNELS else {}
    match fields.get(name):
        case "list":
            return [item for item in text.split(";") if item]
        case "integer" if text.lstrip("-").isdigit():
            return int(text)
        case "boolean" if text in ("true", "false"):
            return text == "true"
    return text


def _variable(name: str) -> str:
    if name not in os.environ:
        raise CommandError(f"The environment has no {name}.", returncode=2)
    return os.environ[name]
