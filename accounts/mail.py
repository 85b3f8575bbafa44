"""The one door to SMTP. Mail is queued in the transaction of what it tells of, and sent by a worker.

A slow or dead server delays mail and nothing else: no request waits for it. One worker sends at a time, what is most
urgent first (``accounts.mail_order``); when the server does not answer, everything waiting is put off and the worker is
free again. What the server says of one recipient or one mail is that one's alone. A mail may arrive twice when a worker
dies between sending and noting it, never not at all because of that.
"""

from __future__ import annotations

import json
import os
import smtplib
import socket
import time
from datetime import datetime, timedelta

import structlog
from django.conf import settings
from django.core.mail import EmailMessage, EmailMultiAlternatives, get_connection
from django.core.mail.backends.base import BaseEmailBackend
from django.db import transaction
from django.db.models import F, Min, QuerySet
from django.db.models.functions import Now
from django_q.tasks import async_task

from accounts.emails import normalise_email
from accounts.letters import Letter
from accounts.mail_order import FIRST_WAIT, next_due, rest_of, wait_after, waiting
from accounts.models import Mail, Urgency, User
from accounts.sealing import seal, unseal
from zcplatform.lib import claims, clock
from zcplatform.lib.errors import BadUpstream, DependencyDown, Misconfigured, ZCError
from zcplatform.lib.redact import scrub
from zcplatform.lib.text import check_text

KEEP_TRYING = timedelta(days=2)
KEEP_DONE = timedelta(days=7)
LEASE_S = 60.0
BUSY_S = 20.0  # how long one task may send, so that the worker gets round to other things
PER_MINUTE = 120  # of the whole platform: more than this is only delayed, and codes last of all
PURPOSE = "mail"
SERVERS_OWN = frozenset({"smtp_down", "smtp_missing", "smtp_login_refused", "smtp_sender_refused"})
"""What would meet every other mail as well."""
log = structlog.get_logger(__name__)


class NoServer(BaseEmailBackend):
    """In the place of a backend where no server is set: mail waits, and nothing is written to a log instead."""

    def send_messages(self, email_messages: list[EmailMessage]) -> int:  # type: ignore[override]
        raise Misconfigured("No mail server is set; set ZCPLATFORM_SMTP_HOST.", type="smtp_missing")


def queue(
    recipient: str,
    letter: Letter,
    *,
    urgency: Urgency = Urgency.ALERT,
    lasts: timedelta = KEEP_TRYING,
    needs_account: bool = False,
) -> Mail:
    """Put a mail into the queue, inside the transaction of what it tells of; given up after ``lasts``.

    InvalidField for what is no address, or a subject with a line break in it.
    """
    now = clock.now()
    mail = Mail.objects.create(
        recipient=normalise_email(recipient),
        urgency=urgency,
        subject=check_text(letter.subject, field="subject", max_length=200, required=True),
        sealed_text=seal(json.dumps({"text": letter.text, "html": letter.html}), PURPOSE),
        needs_account=needs_account,
        created_at=now,
        next_attempt_at=now,
        expires_at=now + lasts,
    )
    transaction.on_commit(_wake)
    return mail


def send_due() -> int:
    """Send what is due; how many went out. Called by a worker when something was queued, and every 30 s."""
    if Mail.objects.filter(lease_until__gt=Now()).exists():
        return 0  # another worker is at it; waiting for a slow server must not take both
    owner, until, sent = f"{socket.gethostname()}:{os.getpid()}", time.monotonic() + BUSY_S, 0
    _give_up_old()
    # Asked anew for each, so that a code that came meanwhile is next.
    while (pk := next_due(PER_MINUTE)) is not None:
        if time.monotonic() > until:
            _wake()
            break
        epoch = claims.claim(waiting(), pk=pk, owner=owner, seconds=LEASE_S)
        if epoch is None:
            break  # another worker began between our looks: it has the rest
        held = claims.held(Mail.objects.all(), pk=pk, epoch=epoch)
        outcome = _attempt(Mail.objects.get(pk=pk), held)
        sent += outcome == "sent"
        if outcome == "down":
            break
    return sent


def deliver(recipient: str, letter: Letter) -> None:
    """Send now. DependencyDown ``smtp_down`` when the server does not answer and ``smtp_busy`` when it puts this mail
    off, BadUpstream ``mail_refused`` when it refuses this mail; Misconfigured ``smtp_missing`` when none is set,
    ``smtp_login_refused`` and ``smtp_sender_refused`` when it refuses our password or our own address."""
    headers = {"Auto-Submitted": "auto-generated"}
    sender = settings.DEFAULT_FROM_EMAIL
    message = EmailMultiAlternatives(letter.subject, letter.text, sender, [recipient], headers=headers)
    if letter.html:
        message.attach_alternative(letter.html, "text/html")
    try:
        get_connection().send_messages([message])
    except smtplib.SMTPAuthenticationError as error:
        raise Misconfigured("The mail server refuses our user or password.", type="smtp_login_refused") from error
    except (smtplib.SMTPRecipientsRefused, smtplib.SMTPDataError, smtplib.SMTPSenderRefused) as error:
        raise _refusal(error) from error
    except (smtplib.SMTPException, OSError) as error:
        raise DependencyDown(f"The mail server does not answer: {error}", type="smtp_down") from error


def queue_age_s() -> float | None:
    """Seconds that the oldest waiting mail has waited; None when none waits. This is the metric ``mail_queue_age``."""
    oldest = waiting().aggregate(at=Min("created_at"))["at"]
    return None if oldest is None else max(0.0, (clock.now() - oldest).total_seconds())


def prune() -> int:
    """Forget mails that were sent or given up a week ago; how many."""
    return Mail.objects.exclude(pk__in=waiting()).filter(created_at__lt=clock.now() - KEEP_DONE).delete()[0]


def _wake() -> None:
    async_task("accounts.mail.send_due", cluster="sweeps", save=False)


def _attempt(mail: Mail, held: QuerySet[Mail]) -> str:
    """Try one mail outside any transaction: sent, dropped, refused, later, or down when the server is."""
    if mail.needs_account and not User.objects.filter(email=mail.recipient, is_active=True).exists():
        _finish(mail, held, failed_at=clock.now(), error="no such account")
        return "dropped"
    try:
        deliver(mail.recipient, opened(mail))
    except BadUpstream as error:
        _finish(mail, held, failed_at=clock.now(), error=_told(error))
        log.warning("mail_refused", mail=mail.pk, reason=_told(error))
        return "refused"
    except ZCError as error:
        log.warning("mail_delayed", mail=mail.pk, reason=_told(error), attempts=mail.attempts + 1)
        return _put_off_all(mail, held, error) if error.type in SERVERS_OWN else _put_off(mail, held, _told(error))
    except Exception:  # whatever this mail is, the next is another
        log.exception("mail_delayed", mail=mail.pk)
        return _put_off(mail, held, "an error of the platform itself")
    _finish(mail, held, sent_at=clock.now(), error="")
    return "sent"


def opened(mail: Mail) -> Letter:
    """What a waiting mail says; one that an earlier version queued is plain text."""
    sealed = unseal(mail.sealed_text, PURPOSE)
    try:
        found = json.loads(sealed)
        return Letter(mail.subject, found["text"], found["html"])
    except (ValueError, TypeError, KeyError):
        return Letter(mail.subject, sealed, "")


def _finish(mail: Mail, held: QuerySet[Mail], **values: object) -> None:
    claims.release(held, sealed_text="", attempts=mail.attempts + 1, **values)


def _put_off(mail: Mail, held: QuerySet[Mail], why: str) -> str:
    """This mail, and with it what is no more urgent for the same recipient."""
    next_at = clock.now() + rest_of(mail.recipient)
    again = {"attempts": mail.attempts + 1, "busy": F("busy") + 1}
    claims.release(held, next_attempt_at=next_at, error=why, **again)
    return "later"


def _put_off_all(mail: Mail, held: QuerySet[Mail], error: ZCError) -> str:
    """This mail by its own count of attempts, and everything else that is due by the first wait."""
    now = clock.now()
    claims.release(
        held, attempts=mail.attempts + 1, next_attempt_at=now + wait_after(mail.attempts), error=_told(error)
    )
    waiting().filter(next_attempt_at__lt=now + FIRST_WAIT).update(next_attempt_at=now + FIRST_WAIT)
    return "down"


def _give_up_old(now: datetime | None = None) -> None:
    now = now or clock.now()
    waiting().filter(expires_at__lte=now).update(failed_at=now, sealed_text="")


def _refusal(error: smtplib.SMTPException) -> ZCError:
    """A 5xx is about this mail and final; a 4xx asks to come back later with it. A 421 is the server's own end of the
    conversation, and our own address being refused will meet every mail."""
    if isinstance(error, smtplib.SMTPRecipientsRefused):
        codes = [code for code, _ in error.recipients.values()]
    else:
        codes = [error.smtp_code]  # type: ignore[attr-defined]
    if 421 in codes:
        return DependencyDown("The mail server ended the conversation.", type="smtp_down")
    if isinstance(error, smtplib.SMTPSenderRefused):
        return Misconfigured("The mail server refuses our own address.", type="smtp_sender_refused")
    if all(500 <= code < 600 for code in codes):
        return BadUpstream("The mail server refuses this mail.", type="mail_refused")
    return DependencyDown("The mail server asks to try again later.", type="smtp_busy")


def _told(error: ZCError) -> str:
    return scrub(error.message)[:200]
