"""What must be right before ``serve`` starts anything. Each problem is one sentence that says what to do."""

from __future__ import annotations

import socket
from pathlib import Path
from typing import TextIO

from django.conf import settings
from django.core import checks
from django.core.exceptions import ImproperlyConfigured
from django.db import DatabaseError, connection
from django.db.migrations.executor import MigrationExecutor

from zcplatform.lib import serve_lock
from zcplatform.lib.errors import Misconfigured


def check() -> None:
    """Misconfigured when a key is missing, a migration is unapplied or a system check fails."""
    for problem in (_missing_keys, unapplied_migrations, _failing_checks):
        if message := problem():
            raise Misconfigured(message)


def _missing_keys() -> str:
    missing = [name for name in ("SECRET_KEY", "JWT_KEY", "PEPPER", "INSTANCE") if not _setting(name)]
    if not Path(settings.VAULT_KEY_FILE).exists():
        missing.append(f"VAULT_KEY_FILE ({settings.VAULT_KEY_FILE})")
    return f"Missing keys: {', '.join(missing)}. A new installation needs: zcplatform bootstrap" if missing else ""


def _setting(name: str) -> str:
    try:
        return str(getattr(settings, name))
    except ImproperlyConfigured:  # Django's answer to an empty SECRET_KEY
        return ""


def unapplied_migrations() -> str:
    """What the database lacks, in one sentence; empty when it is up to date."""
    try:
        executor = MigrationExecutor(connection)
    except DatabaseError as error:
        return f"The database does not answer: {error}"
    plan = executor.migration_plan(executor.loader.graph.leaf_nodes())
    if not plan:
        return ""
    names = ", ".join(f"{migration.app_label}.{migration.name}" for migration, _ in plan[:3])
    more = f" and {len(plan) - 3} more" if len(plan) > 3 else ""
    return f"Unapplied migrations: {names}{more}. Run: zcplatform bootstrap"


def _failing_checks() -> str:
    """Those for deployment and those that ask the database too; warnings are for ``doctor`` to tell."""
    found = checks.run_checks(include_deployment_checks=True, databases=["default"])
    errors = [message for message in found if message.is_serious() and not message.is_silenced()]
    return "System checks fail:\n" + "\n".join(map(str, errors)) if errors else ""


def check_port(bind: str, port: int) -> None:
    """Misconfigured when the address can't be listened on, by us, now."""
    family = socket.AF_INET6 if ":" in bind else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listener.bind((bind, port))
        except OSError as error:
            raise Misconfigured(f"Can't listen on {bind}:{port}: {error.strerror}.") from error


def lock(role: str) -> TextIO:
    """Take this home's lock for ``role`` (``web``, ``workers``); see ``serve_lock.take``."""
    return serve_lock.take(Path(settings.HOME), role)
