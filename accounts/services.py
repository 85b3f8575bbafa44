"""What can be done with users and custom roles. Each change and its audit row are one transaction."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from django.db import IntegrityError, transaction
from django.db.models import Q, QuerySet

from accounts.access import require_super_admin
from accounts.emails import normalise_email
from accounts.logins import void_all
from accounts.models import Role, User
from accounts.permissions import ABILITIES, ROLES, SUPER_ADMIN_ONLY, forget_custom_roles
from accounts.targets import target_of
from audit.services import Target, record
from zcplatform.lib.actors import Actor
from zcplatform.lib.errors import Conflict, InvalidField, NotFound
from zcplatform.lib.text import check_text

USER_FIELDS = ("name", "is_active", "is_superuser")
VOIDING = frozenset({"is_active", "is_superuser"})
"""What a user is. When that changes, every session, token and key of before is void: whoever rises logs in anew."""
LEAVING: list[Callable[[User], None]] = []
"""Told inside the transaction before a user is made inactive, for the apps that stand on this one. None refuses:
whoever has to go goes."""


def find_user(email: str) -> User:
    """The account with this address, for a command. InvalidField ``invalid_email``, NotFound ``user_not_found``."""
    user = User.objects.filter(email=normalise_email(email)).first()
    if user is None:
        text = f"There is no user with the e-mail address {email}: create one in the admin, under Users."
        raise NotFound(text, type="user_not_found")
    return user


def create_user(email: str, *, actor: Actor, name: str = "", is_superuser: bool = False) -> User:
    """Create a user without a password; for whoever may invite people, and a super-admin only for super-admins.

    InvalidField ``invalid_email``, Conflict ``email_taken``.
    """
    if is_superuser:
        require_super_admin(actor)
    name = check_text(name, field="name", max_length=100)
    address = normalise_email(email)
    try:
        with transaction.atomic():
            user = User.objects.create_user(address, name=name, is_superuser=is_superuser)
            record("user.create", actor=actor, target=target_of(user), detail={"is_superuser": is_superuser})
    except IntegrityError as error:
        raise Conflict("There is an account with this e-mail address already.", type="email_taken") from error
    return user


def update_user(user: User, *, actor: Actor, **changes: Any) -> User:
    """Change ``name``, ``is_active`` or ``is_superuser``; Conflict ``last_super_admin`` when nobody would be left.

    Forbidden but for super-admins. A user who is made inactive, or super-admin or not, is out with their next request.
    """
    require_super_admin(actor)
    if "name" in changes:
        changes["name"] = check_text(changes["name"], field="name", max_length=100)
    unknown = set(changes) - set(USER_FIELDS)
    if unknown:
        raise TypeError(f"{sorted(unknown)[0]} can't be changed here.")
    with transaction.atomic():
        row = {found.pk: found for found in _locked(user)}[user.pk]
        if row.is_active and changes.get("is_active") is False:
            for tell in LEAVING:
                tell(row)
        changed = {key: [getattr(row, key), value] for key, value in changes.items() if getattr(row, key) != value}
        for key, value in changes.items():
            setattr(row, key, value)
        row.save(update_fields=list(changes))
        _keep_a_super_admin()
        if set(changed) & VOIDING:
            void_all(row)
        if changed:
            record("user.update", actor=actor, target=target_of(row), detail={"changed": changed})
    return row


def save_role(role: Role, *, actor: Actor) -> Role:
    """Create or change a custom role.

    InvalidField ``role_reserved`` for the name of a built-in one, ``invalid_ability`` for an ability that no role may
    have; Conflict ``role_taken``.
    """
    require_super_admin(actor)
    role.label = check_text(role.label, field="label", max_length=80, required=True)
    role.abilities = sorted(set(role.abilities))
    refused = set(role.abilities) - set(ABILITIES) | set(role.abilities) & SUPER_ADMIN_ONLY
    if role.name in ROLES:
        raise InvalidField(f"“{role.name}” is a built-in role.", type="role_reserved", field="name")
    if refused:
        raise InvalidField(f"No role can have {', '.join(sorted(refused))}.", type="invalid_ability", field="abilities")
    verb = "create" if role._state.adding else "update"
    try:
        with transaction.atomic():
            role.save()
            target = Target("role", role.name, role.label)
            record(f"role.{verb}", actor=actor, target=target, detail={"abilities": role.abilities})
    except IntegrityError as error:
        raise Conflict(f"There is a role “{role.name}” already.", type="role_taken") from error
    forget_custom_roles()
    return role


def delete_role(role: Role, *, actor: Actor) -> None:
    """Delete a custom role; members who have it may do nothing from then on."""
    require_super_admin(actor)
    with transaction.atomic():
        target = Target("role", role.name, role.label)
        role.delete()
        record("role.delete", actor=actor, target=target)
    forget_custom_roles()


def _locked(user: User) -> QuerySet[User]:
    """The user and every super-admin, locked in one order: two who demote each other at once take turns."""
    return User.objects.select_for_update().filter(Q(pk=user.pk) | Q(is_superuser=True)).order_by("pk")


def _keep_a_super_admin() -> None:
    """Call inside the transaction, after the change."""
    if not User.objects.filter(is_superuser=True, is_active=True).exists():
        raise Conflict("The last active super-admin has to stay one.", type="last_super_admin")
