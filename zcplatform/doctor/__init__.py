"""``doctor``: looks at everything that an installation stands on, and says what to do about what it finds.

A check is a row in ``CHECKS``. It reads only, and none keeps another from being made.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator

from zcplatform import startup
from zcplatform.doctor import fleet, host, outside, safety
from zcplatform.doctor.findings import Check, Finding
from zcplatform.lib.errors import ZCError
from zcplatform.lib.redact import scrub

log = logging.getLogger(__name__)

CHECKS = (
    Check("settings", "the settings fit together", host.settings_fit, needs_rows=False),
    Check("keys", "every key file is private", host.key_files, needs_rows=False),
    Check("folders", "home and its folders have the modes that bootstrap gave them", host.folders, needs_rows=False),
    Check("owners", "everything belongs to one user", host.owners, needs_rows=False),
    Check("disk", "there is room on the disk", host.disk, needs_rows=False),
    Check("database", "migrated, intact and private", host.database, needs_rows=False),
    Check("redis", "the limits are counted where the settings say", host.redis, needs_rows=False),
    Check("clock", "the clocks of host, database and disk agree", host.clocks),
    Check("vault", "the key file and the database belong together", host.vault),
    Check("audit", "the chain is unbroken", host.audit),
    Check("mail", "no mail waits for long", host.mail_queue),
    Check("engine", "every node's engine answers", fleet.engines),
    Check("web", "where serve runs the web, it answers and the router finds it", outside.web, needs_rows=False),
    Check("router", "the router answers and has every route", fleet.routing),
    Check("agents", "what runs is what should run", fleet.differences),
    Check("ports", "no agent listens where another would be given a port", fleet.foreign_ports),
    Check("hardening", "every running agent is as confined as its plan and spec ask for", fleet.hardening),
    Check("egress", "what agents may connect to is enforced", fleet.egress),
    Check("workers", "every cluster of workers gives signs of life", fleet.workers),
    Check("runs", "no run is stuck", fleet.runs),
    Check("schedules", "the queue has every periodic job", safety.periodic_jobs),
    Check("backups", "no backup and no restore drill failed or is overdue", safety.backups),
    Check("leftovers", "nothing lies about that belongs to nobody", safety.leftovers),
    Check("names", "the domain and the tenants' names lead somewhere", outside.names, needs_rows=False),
    Check(
        "certificate",
        "the public address has the certificate that it needs",
        outside.certificate,
        needs_rows=False,
    ),
)


def examine() -> list[Finding]:
    """Every check's findings, at least one each."""
    usable = not startup.database_is_gone() and not startup.unapplied_migrations()
    return [finding for check in CHECKS if usable or not check.needs_rows for finding in _look(check)]


def _look(check: Check) -> Iterator[Finding]:
    silent = True
    try:
        for level, what, todo in check.look():
            silent = False
            yield Finding(level, check.name, what, todo)
    except ZCError as error:
        silent = False
        yield Finding("error", check.name, error.message, "Mend this first; the rest of this check was left out.")
    except Exception as error:
        log.exception("a check of doctor failed", extra={"check": check.name})
        silent = False
        what = scrub(f"could not be looked at: {type(error).__name__}: {error}")
        yield Finding("error", check.name, what, "Look into the platform's log.")
    if silent:
        yield Finding("ok", check.name, check.fine)
