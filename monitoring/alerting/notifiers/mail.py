"""Mail, through the platform's one queue: it looks after a server that is slow or down."""

from __future__ import annotations

from typing import Any

from django.db import transaction

from accounts import mail
from accounts.emails import normalise_email
from accounts.letters import Letter, write
from accounts.models import Urgency
from accounts.rates import spend
from monitoring.alerting import agreements
from monitoring.alerting import message as texts
from monitoring.alerting.machine import Notice
from monitoring.alerting.notifiers.base import Address, Refused
from tenants.fields import Field
from tenants.models import Tenant
from zcplatform.lib.errors import DependencyDown, InvalidField, RateLimited

MAX_SUBJECT = 200
MAX_RECIPIENTS = 5
ALERTS, TESTS = "240/hour", "30/hour"
"""Mails of one tenant, each recipient counted."""


class MailNotifier:
    """One mail for each recipient who agreed. The message counts as sent when it is in the queue."""

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
        """Refused when nobody agreed yet; DependencyDown when the tenant's mails of this hour are spent."""
        recipients = agreements.agreed(to.tenant, to.config["to"])
        if not recipients:
            raise Refused("None of the recipients has agreed yet to be told by mail.", type="recipients_unconfirmed")
        test = message["notice"] == Notice.TEST
        _spend(TESTS if test else ALERTS, to.tenant, len(recipients))
        with transaction.atomic():
            for recipient in recipients:
                letter = _letter(message, agreements.link_for(to.tenant, recipient))
                mail.queue(recipient, letter, urgency=Urgency.TEST if test else Urgency.ALERT)


def _spend(budget: str, tenant: Tenant | None, number: int) -> None:
    owner = str(tenant.public_id) if tenant else "platform"
    try:
        spend(budget, f"mail-{budget}", owner, cost=number)
    except RateLimited as error:
        wait = error.details["retry_after"]
        raise DependencyDown("So many mails an hour are not sent.", type="mail_budget", retry_after=wait) from error


def _letter(message: dict[str, Any], stop: str) -> Letter:
    subject, lines, tenant = texts.title(message), texts.lines(message), message["tenant"]
    about = {"title": subject, "facts": lines[1:-1], "lines": lines, "platform": message["platform"], "stop": stop}
    about |= {"page": lines[-1], "slug": tenant["slug"] if tenant else ""}
    return write("alert", subject[:MAX_SUBJECT], **about)


def _check_address(address: str) -> None:
    try:
        normalise_email(address)
    except InvalidField as error:
        raise InvalidField(error.message, field="to") from error
