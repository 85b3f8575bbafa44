"""``manage.py test_smtp --to ADDRESS``: whether mail goes out."""

from __future__ import annotations

from argparse import ArgumentParser
from typing import Any

from django.conf import settings

from accounts.emails import normalise_email
from accounts.letters import Letter
from accounts.mail import deliver, queue_age_s
from zcplatform.lib.commands import PlatformCommand


class Command(PlatformCommand):
    help = "Send a test mail at once, past the queue, and say what the server says."

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("--to", required=True, help="the address that the mail goes to")
        super().add_arguments(parser)

    def run(self, **options: Any) -> None:
        recipient = normalise_email(options["to"])
        text = f"This mail was sent by test_smtp from {settings.PUBLIC_BASE_URL}.\n"
        deliver(recipient, Letter("Test mail", text, ""))
        server = f"{settings.EMAIL_HOST}:{settings.EMAIL_PORT}" if settings.EMAIL_HOST else "the console"
        waited = queue_age_s()
        if options["json"]:
            self.print_json({"sent": True, "to": recipient, "server": server, "queue_age_s": waited})
            return
        self.stdout.write(f"Handed to {server} for {recipient}.")
        if waited is not None:
            self.stdout.write(f"The oldest mail in the queue has waited {waited:.0f} s.")
