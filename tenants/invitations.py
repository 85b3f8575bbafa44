"""Invitations: an e-mail address is offered a role, and whoever has that address may accept, once.

Whether the address has an account is told to nobody: the account is made when the invitation is accepted, by whoever
holds the link that was mailed. Who is logged in with the address finds the invitation on the first page as well."""

from __future__ import annotations

import hashlib
import math
import re
import secrets
from datetime import timedelta

from django.conf import settings
from django.db import transaction
from django.db.models import QuerySet

from accounts import mail
from accounts.access import require_reach
from accounts.emails import normalise_email
from accounts.letters import Letter, write
from accounts.models import Urgency, User
from accounts.services import create_user
from tenants import offer
from tenants.access import deny, require
from tenants.events import emit
from tenants.membership import check_grant, check_room, refusals_recorded
from tenants.models import Invitation, Member, Tenant
from tenants.runs import audit
from tenants.states import Desired
from zcplatform.lib import clock
from zcplatform.lib.actors import OPERATOR, Actor
from zcplatform.lib.errors import Conflict, Forbidden, NotFound, RateLimited
from zcplatform.lib.redact import remember
from zcplatform.lib.words import count

LIFETIME = timedelta(days=7)
PREFIX = "zci_"
_PUBLIC = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")
PER_HOUR, PER_SENDER, PER_ADDRESS = 60, 60, 5
"""Of one tenant in an hour, by one user in an hour, and of one tenant to one address in a day. They are rows, so they
are counted as rows: nobody is waited for while the database is locked, what is refused or rolled back does not count,
and every way to invite is bounded."""


def invite(*, actor: Actor, tenant: Tenant, email: str, role: str) -> Invitation:
    """Mail an invitation; a former one to the same address is revoked.

    InvalidField ``invalid_email``, Forbidden ``role_too_high`` or ``plan_limit``, Conflict ``already_member`` or
    ``tenant_deleted``, RateLimited beyond 60 an hour of one tenant or by one user, or five a day to one address. The
    token stands in the mail and nowhere else.
    """
    require(actor, "members.update", tenant)
    address = normalise_email(email)
    token = PREFIX + secrets.token_urlsafe(32)
    remember(token)
    with refusals_recorded(actor, tenant), transaction.atomic():
        row = Tenant.objects.select_for_update().select_related("plan").get(pk=tenant.pk)
        if row.desired == Desired.DELETED:
            raise Conflict("This tenant is deleted or being deleted.", type="tenant_deleted")
        check_grant(actor, row, role)
        if row.members.filter(user__email=address).exists():
            raise Conflict("This address belongs to a member already.", type="already_member")
        _check_places(row, address)
        _check_budgets(row, address, actor)
        _open(row).filter(email=address).update(revoked_at=clock.now())
        made = Invitation.objects.create(
            tenant=row,
            email=address,
            role=role,
            token_hash=_hash(token),
            invited_by_id=actor.user_id,
            expires_at=clock.now() + LIFETIME,
        )
        mail.queue(address, _letter(row, role, token, actor), urgency=Urgency.INVITATION)
        emit(row, "invitation.create", {"email": address, "role": role})
        audit(row, "invitation.create", actor, email=address, role=role)
    return made


def revoke(*, actor: Actor, invitation: Invitation) -> None:
    """Take an open invitation back. NotFound for one that was accepted or revoked."""
    tenant = invitation.tenant
    require(actor, "members.update", tenant)
    with refusals_recorded(actor, tenant), transaction.atomic():
        row = Tenant.objects.select_for_update().get(pk=tenant.pk)
        check_grant(actor, row, invitation.role)
        if _open(row).filter(pk=invitation.pk).update(revoked_at=clock.now()) != 1:
            raise NotFound("This invitation is not open any more.")
        emit(row, "invitation.revoke", {"email": invitation.email})
        audit(row, "invitation.revoke", actor, email=invitation.email)


def accept(*, actor: Actor, user: User, token: str) -> Member:
    """Become a member. Of two at once one does.

    NotFound for a token that never was; Forbidden ``not_invited`` for everybody but the invited address, audited;
    Conflict ``invitation_used``, ``invitation_revoked``, ``invitation_expired``, ``invitation_void`` (whoever invited
    may not give this role any more), ``already_member``. Forbidden ``plan_limit``, audited: an invitation takes a
    place, so only a plan whose limits were lowered meanwhile is that full.
    """
    require_reach(actor, "account.manage")
    found = find(token)
    if user.email != found.email:
        refusal = Forbidden("This invitation is for another address.", type="not_invited")
        deny(refusal, actor=actor, ability="invitation.accept", tenant=found.tenant)
    with refusals_recorded(actor, found.tenant, "invitation.accept"), transaction.atomic():
        rows = Tenant.objects.select_for_update(of=("self",)).select_related("plan", "node")
        tenant = rows.get(pk=found.tenant_id)
        fresh = Invitation.objects.select_related("invited_by").get(pk=found.pk)
        _check_open(fresh, tenant)
        if fresh.role == "owner":
            offer.check_owner(_giver(fresh), tenant, user)
        if tenant.members.filter(user=user).exists():
            raise Conflict("You are a member already.", type="already_member")
        check_room(tenant)
        Invitation.objects.filter(pk=fresh.pk).update(accepted_at=clock.now())
        member = Member.objects.create(tenant=tenant, user=user, role=fresh.role, invited_by=fresh.invited_by)
        emit(tenant, "member.add", {"member": str(member.public_id), "role": member.role})
        audit(tenant, "invitation.accept", actor, email=user.email, role=member.role)
    return member


def accept_anew(*, token: str, ip: str = "", request_id: str = "") -> Member | None:
    """Make the account of an invited address that has none, and accept as it: the mailed token proves the address. None
    where there is an account, whose user logs in first. Errors as ``accept`` has them."""
    found = find(token)
    if not is_for_nobody_yet(token):
        return None
    stranger = Actor(label=found.email, ip=ip, request_id=request_id)
    with refusals_recorded(stranger, found.tenant, "invitation.accept"), transaction.atomic():
        tenant = Tenant.objects.select_for_update().get(pk=found.tenant_id)
        _check_open(Invitation.objects.select_related("invited_by").get(pk=found.pk), tenant)
        user = create_user(found.email, actor=stranger)
        return accept(actor=user.as_actor(ip=ip, request_id=request_id), user=user, token=token)


def is_for_nobody_yet(token: str) -> bool:
    """Whether ``accept_anew`` would make an account."""
    return not _is_public(token) and not User.objects.filter(email=find(token).email).exists()


def of(user: User) -> QuerySet[Invitation]:
    """The open invitations of this user's address."""
    rows = Invitation.objects.filter(email=user.email, accepted_at=None, revoked_at=None, expires_at__gt=clock.now())
    return rows.exclude(tenant__desired=Desired.DELETED).select_related("tenant").order_by("-pk")


def _giver(invitation: Invitation) -> Actor:
    """On whose word it stands: what an operator offers, anybody may take."""
    return invitation.invited_by.as_actor() if invitation.invited_by else OPERATOR


def find(token: str) -> Invitation:
    """The invitation with this token, whatever became of it; NotFound, also where its tenant is gone. Its public id
    will do for whoever is logged in with the address, and proves nothing."""
    rows = Invitation.objects.select_related("tenant").exclude(tenant__desired=Desired.DELETED)
    named = {"public_id": token} if _is_public(token) else {"token_hash": _hash(token)}
    found = rows.filter(**named).first()
    if found is None:
        raise NotFound("There is no such invitation.")
    return found


def open_ones(tenant: Tenant) -> QuerySet[Invitation]:
    """The tenant's invitations that can still be accepted."""
    return _open(tenant).filter(expires_at__gt=clock.now())


def link(token: str) -> str:
    """Where the mail leads: a page with a button. From the setting and never from a request's Host."""
    return f"{settings.PUBLIC_BASE_URL}/invitations/{token}"


def _open(tenant: Tenant) -> QuerySet[Invitation]:
    return Invitation.objects.filter(tenant=tenant, accepted_at__isnull=True, revoked_at__isnull=True)


def _check_places(tenant: Tenant, address: str) -> None:
    """Forbidden ``plan_limit`` when members and those who are invited take every place of the plan: whoever invites is
    told, and not whoever accepts. A former invitation to ``address`` makes way for the new one."""
    limit, members = tenant.plan.max_members, tenant.members.count()
    invited = open_ones(tenant).exclude(email=address).count()
    if members + invited >= limit:
        taken = f"{count(members, 'member')} and {count(invited, 'open invitation')} take them"
        raise Forbidden(
            f"The plan {tenant.plan.name} has {count(limit, 'place')}; {taken}. Take an invitation back, remove a "
            "member or choose a larger plan.",
            type="plan_limit",
            limit=limit,
            members=members,
            invited=invited,
        )


def _check_budgets(tenant: Tenant, address: str, actor: Actor) -> None:
    """RateLimited when there were as many invitations as may be; under the tenant's lock."""
    hour, day, made = timedelta(hours=1), timedelta(days=1), tenant.invitations.all()
    _check_budget(made, PER_HOUR, hour, f"A tenant sends {PER_HOUR} invitations an hour")
    _check_budget(made.filter(email=address), PER_ADDRESS, day, f"An address is invited {PER_ADDRESS} times a day")
    if actor.user_id is not None:
        sent = Invitation.objects.filter(invited_by_id=actor.user_id)
        _check_budget(sent, PER_SENDER, hour, f"One user sends {PER_SENDER} invitations an hour")


def _check_budget(made: QuerySet[Invitation], limit: int, span: timedelta, text: str) -> None:
    now = clock.now()
    recent = made.filter(created_at__gt=now - span).order_by("-created_at")
    counted = list(recent.values_list("created_at", flat=True)[:limit])
    if len(counted) >= limit:
        wait = max(1, math.ceil((counted[-1] + span - now).total_seconds()))
        raise RateLimited(f"{text}; try again in {wait} s.", retry_after=wait)


def _check_open(invitation: Invitation, tenant: Tenant) -> None:
    if invitation.accepted_at is not None:
        raise Conflict("This invitation has been accepted already.", type="invitation_used")
    if invitation.revoked_at is not None:
        raise Conflict("This invitation has been taken back.", type="invitation_revoked")
    if invitation.expires_at <= clock.now():
        raise Conflict("This invitation has run out; ask for another.", type="invitation_expired")
    if invitation.invited_by is not None:
        _check_backed(invitation.invited_by.as_actor(), invitation, tenant)


def _check_backed(inviter: Actor, invitation: Invitation, tenant: Tenant) -> None:
    try:
        check_grant(inviter, tenant, invitation.role)
    except Forbidden as error:
        text = "Whoever invited you may not give this role any more; ask for another invitation."
        raise Conflict(text, type="invitation_void") from error


def _is_public(token: str) -> bool:
    return not token.startswith(PREFIX) and _PUBLIC.fullmatch(token) is not None


def _letter(tenant: Tenant, role: str, token: str, actor: Actor) -> Letter:
    about = {"name": tenant.name, "slug": tenant.slug, "role": role, "link": link(token)}
    return write("invitation", f"Invitation to {tenant.name}", inviter=actor.label, days=LIFETIME.days, **about)


def _hash(token: str) -> str:
    return hashlib.sha256(token.encode("utf-8", "replace")).hexdigest()
