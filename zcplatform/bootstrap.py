"""From an empty folder to a platform that can be served. Every part looks first, so it may be run again."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from django.conf import settings
from django.core.management import call_command
from django.db import connection, transaction

from backups.services import backup_before_migrating
from zcplatform import keys, startup
from zcplatform.lib.errors import DependencyDown, Misconfigured
from zcplatform.lib.home import make_folders

if TYPE_CHECKING:
    from tenants.models import Node

Say = Callable[[str, str], None]
"""Called with the name of a part and what came of it."""


def bootstrap(*, admin_email: str, say: Say, second_factor: bool = False) -> dict[str, Any]:
    """Make folders, keys, database, plans, node, super-admin and schedules; look at the engine.

    With ``second_factor`` the super-admin is enrolled, unless they are already, and what they need for it is returned.

    InvalidField for an address that is none. Misconfigured or DependencyDown when a part can't be done; running it
    again goes on from there.
    """
    from accounts.emails import normalise_email

    address = normalise_email(admin_email)  # before anything is made
    for name, part in _parts(address):
        say(name, part())
    return _enrol(address, say) if second_factor else {}


def _parts(admin_email: str) -> Iterator[tuple[str, Callable[[], str]]]:
    yield "folders", _folders
    yield "keys", _keys
    yield "database", _database
    yield "vault", _vault
    yield "plans", _plans
    yield "node", _node
    yield "engine", _engine
    yield "super-admin", lambda: _super_admin(admin_email)
    yield "alerts", _alert_rules
    yield "schedules", _schedules


def _folders() -> str:
    make_folders(Path(settings.HOME))
    return str(settings.HOME)


def _keys() -> str:
    made = keys.create_missing(Path(settings.KEYS_DIR), Path(settings.HOME))
    for name in keys.NAMES:
        setattr(settings, name, keys.read(name, Path(settings.KEYS_DIR)))
    settings.INSTANCE = keys.instance_id(Path(settings.HOME))
    return f"made {len(made)}" if made else "there"


def _database() -> str:
    if startup.database_is_gone():
        message = (
            "The database is not there, but its vault key is: restore a backup, or move the key away to begin anew."
        )
        raise Misconfigured(message, type="database_missing")
    if startup.unapplied_migrations():
        if settings.INSTANCE and Path(settings.VAULT_KEY_FILE).exists():
            backup_before_migrating()  # one that fails half-way must leave a way back
        call_command("migrate", verbosity=0, interactive=False)
    if connection.vendor == "sqlite":
        Path(settings.DATABASES["default"]["NAME"]).chmod(0o600)
    return connection.vendor


def _vault() -> str:
    from vault.services import create_keyring, verify_keyring
    from zcplatform.lib.actors import OPERATOR

    made = create_keyring(actor=OPERATOR)
    verify_keyring()
    return "made a key" if made else "there"


def _plans() -> str:
    """``platform.toml`` seeds plans that are absent and never overwrites edited ones."""
    from audit.services import Target, record
    from tenants.models import Plan
    from zcplatform.lib.actors import OPERATOR

    for slug, limits in settings.TOML.plans.items():
        with transaction.atomic():
            plan, made = Plan.objects.get_or_create(slug=slug, defaults=asdict(limits))
            if made:
                record("plan.create", actor=OPERATOR, target=Target("plan", slug, plan.name), detail=asdict(limits))
    return ", ".join(Plan.objects.order_by("memory_limit_mb").values_list("slug", flat=True))


def _node() -> str:
    """One node per runtime that was ever chosen on this host; ranges from the settings, until somebody edits them."""
    from audit.services import Target, record
    from tenants.models import Node
    from zcplatform.lib.actors import OPERATOR

    ranges = dict(zip(("port_first", "port_last"), settings.PORT_RANGE, strict=True))
    ranges |= dict(zip(("uid_first", "uid_last"), settings.UID_RANGE, strict=True))
    if settings.RUNTIME not in settings.RUNTIMES:
        raise Misconfigured(f"There is no runtime “{settings.RUNTIME}”.", type="unknown_runtime")
    with transaction.atomic():
        node, made = _node_here(), False
        if node is None:
            columns = ranges | {"runtime": settings.RUNTIME}
            node, made = Node.objects.get_or_create(name=settings.RUNTIME, defaults=columns)
        if node.runtime != settings.RUNTIME:
            text = f"A node of the runtime “{node.runtime}” is called “{node.name}”; give it another name."
            raise Misconfigured(text, type="node_name_taken")
        if made:
            record("node.create", actor=OPERATOR, target=Target("node", str(node.pk), node.name), detail=ranges)
    return f"{node.name}, {node.capacity} slots"


def _node_here() -> Node | None:
    """Of the nodes of this runtime, of which there may be several, the one that bootstrap made: the first. Others are
    looked at by doctor."""
    from tenants.models import Node

    return Node.objects.filter(runtime=settings.RUNTIME).order_by("pk").first()


def _engine() -> str:
    from tenants.runtimes import runtime_for

    node = _node_here()
    if node is None:
        raise Misconfigured(f"The node of the runtime “{settings.RUNTIME}” is gone.", type="node_missing")
    runtime = runtime_for(node)
    try:
        info = runtime.check()
    except DependencyDown as error:
        raise DependencyDown(f"{error.message} Start it, then run bootstrap again.", type=error.type) from error
    runtime.ensure_network(0)
    if info.detail.get("agents_run_as") != "caller":
        return f"{info.kind} {info.version}".strip()
    if not info.detail["allowed"]:
        text = f"Agents can't have users of their own, since {info.detail['why']}. {info.detail['todo']}"
        raise Misconfigured(f"{text} Then run bootstrap again.", type="unprivileged_process")
    user = "root" if os.geteuid() == 0 else "the user of the workers"
    return f"{info.kind}: agents run as {user}, not as users of their own, since {info.detail['why']}"


def _super_admin(address: str) -> str:
    from accounts.models import User
    from accounts.services import create_user
    from zcplatform.lib.actors import OPERATOR

    user = User.objects.filter(email=address).first()
    if user is None:
        create_user(address, actor=OPERATOR, is_superuser=True)
    elif not user.is_superuser:
        raise Misconfigured(f"{address} exists and is no super-admin.", type="not_a_super_admin")
    return address


def _enrol(email: str, say: Say) -> dict[str, Any]:
    from accounts import second_factor
    from accounts.emails import normalise_email
    from accounts.models import User
    from zcplatform.lib.actors import OPERATOR

    user = User.objects.get(email=normalise_email(email))
    if user.second_factor_at:
        say("second factor", "there")
        return {}
    say("second factor", "enrolled")
    return second_factor.enrol_by_operator(user, actor=OPERATOR).shown()


def _alert_rules() -> str:
    """Those that exist by default; one that somebody changed stays as it is."""
    from monitoring.alerting.rules import DEFAULTS, ensure_defaults

    return f"{len(DEFAULTS)} by default, {ensure_defaults()} new or renewed"


def _schedules() -> str:
    from audit.services import record
    from zcplatform import schedules
    from zcplatform.lib.actors import OPERATOR

    report: Any = schedules.ensure()
    with transaction.atomic():
        record("platform.bootstrap", actor=OPERATOR, detail={"version": _version()})
    return f"{len(schedules.PERIODIC)} declared, {len(report.added)} new"


def _version() -> str:
    from zcplatform import __version__

    return __version__
