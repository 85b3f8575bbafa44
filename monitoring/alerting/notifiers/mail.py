"""Mail, through the platform's one queue: it looks after a server that is slow or down."""

from __future__ import annotations

from typing import Any

from django.db import transaction

from accounts import mail
from accounts.emails import normalise_email
from accounts.letters import Letter, write
from monitoring.alerting import message as texts
from monitoring.alerting.notifiers.base import Address
from tenants.fields import Field
from zcplatform.lib.errors import InvalidField

MAX_SUBJECT = 200
MAX_RECIPIENTS = 5


class MailNotifier:
    """One mail for each recipient. The message counts as sent when it is in the queue."""

    name = "mail"
    label = "Mail"
    fields = (
        Field(
            "to", "Recipients", "list", True, "E-mail addresses.", pattern=r"[^@\s]+@[^@\s]+", max_items=MAX_RECIPIENTS
        ),
    )

    def check(self, values: dict[str, Any]) -> None:
        for address in values.get("to", []):
            _check_address(address)

    def make_secret(self) -> None:
        return None

    def send(self, to: Address, message: dict[str, Any]) -> None:
        letter = _letter(message)
        with transaction.atomic():
            for recipient in to.config["to"]:
                mail.queue(recipient, letter)


def _letter(message: dict[str, Any]) -> Letter:
    subject, lines, tenant = texts.title(message), texts.lines(message), message["tenant"]
    about = {"title": subject, "facts": lines[1:-1], "lines": lines, "platform": message["platform"]}
    if tenant:
        about |= {"slug": tenant["slug"], "page": f"{message['platform']}/tenants/{tenant['slug']}/alerts"}
    return write("alert", subject[:MAX_SUBJECT], **about)


def _check_address(address: str) -> None:
    try:
        normalise_email(address)
    except InvalidField as error:
        raise InvalidField(error.message, field="to") from error
