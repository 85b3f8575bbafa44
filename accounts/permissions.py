"""The one matrix: what can be done in a tenant, and which role may do it.

``tenants.access.can`` finds a user's role; the answer comes from here. Super-admins are not in the matrix:
they may do everything. ``docs/roles.md`` is printed from this data by ``manage.py roles``.
"""

from __future__ import annotations

import time
from collections.abc import Iterable

from accounts.models import Role

ABILITIES: dict[str, str] = {
    "tenant.view": "See the tenant, its status and its plan",
    "runs.view": "See its runs, their steps and its events",
    "metrics.view": "See its metrics, usage and resources",
    "config.view": "See its configuration, secrets masked",
    "channels.view": "See its channels, secrets masked",
    "members.view": "See its members",
    "logs.read": "Read its logs",
    "tenant.update": "Change its name",
    "tenant.deploy": "Deploy it",
    "tenant.start": "Start it",
    "tenant.stop": "Stop it",
    "tenant.restart": "Restart it",
    "config.update": "Change or roll back its configuration",
    "channels.update": "Add, change, test and remove channels",
    "provider.test": "Test the connection to its model provider",
    "members.update": "Invite, change and remove members, up to one's own role",
    "pairing.manage": "See the pairing code and reset pairing",
    "tokens.manage": "Make and revoke its access tokens",
    "exec.diagnostic": "Run the agent kind's diagnostic commands",
    "audit.read": "Read its audit trail",
    "alerts.manage": "Set up its alerts and notifiers",
    "tenant.resize": "Move it to another plan",
    "tenant.delete": "Delete it",
    "tenant.undelete": "Bring it back after a deletion",
    "tenant.transfer": "Hand it to another owner",
    "secrets.rotate": "Rotate its secrets",
    "egress.update": "Change what its agent may connect to, within the plan's default",
    "exec.any": "Run any command in the agent's place",
    "tenant.suspend": "Suspend it: set the operator's hold",
    "tenant.reactivate": "Reactivate it: lift a hold",
}

# A hold is the platform's word against the customer's, so no role in the tenant may set or lift one.
SUPER_ADMIN_ONLY = frozenset({"tenant.suspend", "tenant.reactivate"})

_VIEWER = frozenset(name for name in ABILITIES if name.endswith(".view"))
_CONTRIBUTOR = _VIEWER | {"logs.read"}
_MANAGER = _CONTRIBUTOR | {
    "tenant.update",
    "tenant.deploy",
    "tenant.start",
    "tenant.stop",
    "tenant.restart",
    "config.update",
    "channels.update",
    "provider.test",
    "members.update",
    "pairing.manage",
    "tokens.manage",
    "exec.diagnostic",
    "audit.read",
    "alerts.manage",
}
# What can't be undone, or changes who pays how much, is the owner's. ``tenant.resize`` is here for the second reason.
_OWNER = _MANAGER | {
    "tenant.resize",
    "tenant.delete",
    "tenant.undelete",
    "tenant.transfer",
    "secrets.rotate",
    "egress.update",
    "exec.any",
}

GUARDED = frozenset({"tenant.delete", "tenant.transfer", "secrets.rotate", "exec.any"})
"""For these, whoever enrolled a second factor shows it again; so they do to give a role that has them."""

ROLES: dict[str, frozenset[str]] = {
    "viewer": _VIEWER,
    "contributor": _CONTRIBUTOR,
    "manager": _MANAGER,
    "owner": _OWNER,
}

# What is not done in a tenant. No role holds these: everybody has the first three for themselves, super-admins all.
BEYOND_TENANTS: dict[str, str] = {
    "account.view": "See one's own account, sessions and API keys",
    "account.manage": "Change one's own account: make and revoke API keys, end sessions",
    "tenant.create": "Create tenants, where the platform allows it",
    "platform.view": "See the platform's users, roles, plans and monitoring",
    "platform.admin": "Change the platform's users, roles and plans",
}

_LOOKING = _VIEWER | {"logs.read", "audit.read", "account.view", "platform.view"}
# How far an API key reaches. A scope takes away and never gives: its user must have the ability as well.
SCOPES: dict[str, frozenset[str]] = {
    "read": _LOOKING,
    "write": _LOOKING | _MANAGER | {"tenant.create"},
    "admin": frozenset(ABILITIES) | frozenset(BEYOND_TENANTS),
}

# How long another process may go on using a custom role as it was, in seconds.
CUSTOM_ROLE_SECONDS = 2.0
_custom: dict[str, tuple[float, frozenset[str]]] = {}


def role_can(role: str, ability: str) -> bool:
    """Whether ``role``, built-in or custom, has ``ability``; a role that does not exist has none.

    Raises KeyError for an ability that is not in the matrix: a typing error must not read as "no".
    """
    if ability not in ABILITIES:
        raise KeyError(f"No ability called {ability!r}.")
    return ability in abilities_of(role)


def may_grant(granter: str, role: str, *, limit: frozenset[str] | None = None) -> bool:
    """Whether a member with the role ``granter`` may give ``role`` to somebody, or take it away.

    Nobody grants more than they have, nor more than their credential's ``limit``: a manager up to manager, an owner
    all.
    """
    mine = abilities_of(granter) if limit is None else abilities_of(granter) & limit
    return "members.update" in mine and role_exists(role) and abilities_of(role) <= mine


def abilities_in(scopes: Iterable[str]) -> frozenset[str]:
    """What a key with these scopes reaches; scopes that do not exist reach nothing."""
    return frozenset().union(*(SCOPES.get(scope, frozenset()) for scope in scopes))


def role_exists(role: str) -> bool:
    return role in ROLES or Role.objects.filter(name=role).exists()


def abilities_of(role: str) -> frozenset[str]:
    """The abilities of a built-in or custom role; none for one that does not exist."""
    if role in ROLES:
        return ROLES[role]
    until, abilities = _custom.get(role, (0.0, frozenset()))
    if time.monotonic() < until:
        return abilities
    row = Role.objects.filter(name=role).values_list("abilities", flat=True).first()
    if row is None:  # not kept: a name that does not exist is anybody's to make up, of any length
        _custom.pop(role, None)
        return frozenset()
    # Whatever stands in the row, only what a role may hold counts.
    abilities = frozenset(name for name in row if name in ABILITIES) - SUPER_ADMIN_ONLY
    _custom[role] = (time.monotonic() + CUSTOM_ROLE_SECONDS, abilities)
    return abilities


def forget_custom_roles() -> None:
    """Read custom roles afresh, in this process; called after one was changed."""
    _custom.clear()
