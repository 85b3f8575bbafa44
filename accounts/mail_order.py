"""Which of the waiting mails is next, and how long a recipient rests that could not be reached.

The most urgent goes first, and of these what was never tried. A recipient whose side puts mail off rests: longer each
time, and with all that waits for it but login codes. So one person's full mailbox is nobody else's wait.
"""

from __future__ import annotations

from datetime import timedelta

from django.db.models import Exists, OuterRef, QuerySet, Sum

from accounts.models import Mail, Urgency
from zcplatform.lib import clock

FIRST_WAIT, LONGEST_WAIT = timedelta(seconds=15), timedelta(hours=1)


def waiting() -> QuerySet[Mail]:
    """What was neither sent nor given up."""
    return Mail.objects.filter(sent_at=None, failed_at=None)


def next_due(per_minute: int) -> int | None:
    """The mail to send now; None when none is due, or ``per_minute`` went out. The last third of these is for codes."""
    now = clock.now()
    sent = Mail.objects.filter(sent_at__gt=now - timedelta(minutes=1)).count()
    if sent >= per_minute:
        return None
    resting = waiting().filter(
        recipient=OuterRef("recipient"), busy__gt=0, next_attempt_at__gt=now, urgency__lte=OuterRef("urgency")
    )
    codes = waiting().filter(next_attempt_at__lte=now, urgency=Urgency.CODE)
    others = waiting().filter(~Exists(resting), next_attempt_at__lte=now, urgency__gt=Urgency.CODE)
    for due in (codes, others) if sent < max(1, per_minute * 2 // 3) else (codes,):
        first = due.order_by("urgency", "attempts", "next_attempt_at", "pk").values_list("pk", flat=True).first()
        if first is not None:
            return first
    return None


def rest_of(recipient: str) -> timedelta:
    """How long this recipient rests now: doubling with every time that it put something off that still waits."""
    before = waiting().filter(recipient=recipient).aggregate(times=Sum("busy"))["times"]
    return wait_after(before or 0)


def wait_after(attempts: int) -> timedelta:
    """How long to wait after this many failures before: doubling, up to an hour."""
    return min(FIRST_WAIT * 2 ** min(attempts, 16), LONGEST_WAIT)
