"""Who belongs to a tenant, and who is invited."""

from __future__ import annotations

from typing import Any
from uuid import UUID

from django.contrib import messages
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect
from django.utils.translation import gettext as _

from accounts import stepup
from accounts.permissions import may_grant, role_exists
from tenants import invitations, membership
from tenants.admin.members import role_choices
from tenants.admin.site import telling
from tenants.models import Invitation, Member, Tenant
from tenants.pages.frame import Viewer, address, confirm, own, show, tenant_page, to_step_up
from zcplatform.lib.errors import InvalidField

ABOUT = {
    "viewer": "sees everything but logs, changes nothing",
    "contributor": "reads logs as well",
    "manager": "deploys, configures, and manages members",
    "owner": "everything, deleting and handing over included",
}


@tenant_page("members.view")
def members_view(request: HttpRequest, tenant: Tenant, viewer: Viewer) -> HttpResponse:
    """Members with their roles, then open invitations to those who may invite."""
    manages = viewer.may["members_update"]
    rows = tenant.members.select_related("user").order_by("user__email")
    opened = list(invitations.open_ones(tenant).order_by("-created_at")) if manages else []
    context: dict[str, Any] = {
        "members": [(row, manages and _may_touch(viewer, row)) for row in rows],
        "roles": grantable(viewer) if manages else [],
        "about": ABOUT,
        "invited": len(opened),
        "invitations": opened,
    }
    return show(request, "members.html", tenant, viewer, "members", **context)


def grantable(viewer: Viewer) -> list[tuple[str, str]]:
    """The roles that the viewer may give."""
    mine = "owner" if viewer.actor.unrestricted else viewer.role
    return [(name, label) for name, label in role_choices() if may_grant(mine, name)]


def _may_touch(viewer: Viewer, row: Member) -> bool:
    return may_grant("owner" if viewer.actor.unrestricted else viewer.role, row.role)


@tenant_page("members.update", "POST")
def invite_view(request: HttpRequest, tenant: Tenant, viewer: Viewer) -> HttpResponse:
    """Mail an invitation; who it is for becomes a member by accepting it."""
    email, role = request.POST.get("email", ""), request.POST.get("role", "")
    if stepup.of_role(None, role) and (step := to_step_up(request, address(tenant, "members"))):
        return step
    with telling(request):
        if not role_exists(role):
            raise InvalidField(_("Choose a role."), field="role")
        made = invitations.invite(actor=viewer.actor, tenant=tenant, email=email, role=role)
        messages.success(
            request, _("%(email)s is invited; the link in the mail works for 7 days.") % {"email": made.email}
        )
    return redirect(address(tenant, "members"))


@tenant_page("members.update", "POST")
def member_view(request: HttpRequest, tenant: Tenant, viewer: Viewer, member: UUID) -> HttpResponse:
    """Give a member another role. Raising one, or taking owner, asks for the second factor."""
    row, role = find(tenant, member), request.POST.get("role", "")
    if stepup.of_role(row.role, role) and (step := to_step_up(request, address(tenant, "members"))):
        return step
    with telling(request):
        if not role_exists(role):
            raise InvalidField(_("Choose a role."), field="role")
        membership.set_role(actor=viewer.actor, tenant=tenant, user=row.user, role=role)
        messages.success(request, _("%(email)s is %(role)s now.") % {"email": row.user.email, "role": role})
    return redirect(address(tenant, "members"))


@tenant_page("members.view", "GET", "HEAD", "POST")
def remove_view(request: HttpRequest, tenant: Tenant, viewer: Viewer, member: UUID) -> HttpResponse:
    """GET asks; POST removes the member. Everybody may remove themselves; the service judges the rest."""
    row = find(tenant, member)
    myself = row.user_id == viewer.actor.user_id
    if stepup.of_role(row.role, None) and (step := to_step_up(request, address(tenant, "members"))):
        return step
    if request.method == "POST":
        with telling(request):
            membership.remove(actor=viewer.actor, member=row)
            messages.success(request, _("%(email)s was removed.") % {"email": row.user.email})
            return redirect("tenants" if myself else address(tenant, "members"))
        return redirect(address(tenant, "members"))
    who = {"email": row.user.email, "tenant": tenant.slug}
    return confirm(
        request,
        tenant,
        viewer,
        "members",
        title=_("Leave %(tenant)s?") % who if myself else _("Remove %(email)s?") % who,
        notes=[_("Access to %(tenant)s ends at once, open pages and streams included.") % who],
        button=_("Leave %(tenant)s") % who if myself else _("Remove member"),
        back=address(tenant, "members"),
    )


@tenant_page("members.update", "POST")
def revoke_view(request: HttpRequest, tenant: Tenant, viewer: Viewer, invitation: UUID) -> HttpResponse:
    """Take an open invitation back."""
    found = own(Invitation.objects.all(), tenant, invitation)
    with telling(request):
        invitations.revoke(actor=viewer.actor, invitation=found)
        messages.success(request, _("The invitation of %(email)s is taken back.") % {"email": found.email})
    return redirect(address(tenant, "members"))


def find(tenant: Tenant, public_id: UUID) -> Member:
    """NotFound for another tenant's member, as for one that is none."""
    return own(Member.objects.select_related("user"), tenant, public_id)
