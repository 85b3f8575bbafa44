"""A tenant's members: added, given another role, removed; from the tenant's page."""

from __future__ import annotations

from uuid import UUID

from django.contrib import messages
from django.http import HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, redirect

from accounts import stepup
from accounts.emails import normalise_email
from accounts.models import Role
from accounts.permissions import ROLES
from tenants import invitations, membership
from tenants.admin.site import actor_of, find, telling
from tenants.models import Member


def role_choices() -> list[tuple[str, str]]:
    """The built-in roles, then the platform's own."""
    custom = Role.objects.order_by("label").values_list("name", "label")
    return [(name, name) for name in ROLES] + list(custom)


def set_view(request: HttpRequest, pk: int) -> HttpResponse:
    """Invite somebody by e-mail, or change a member's role."""
    stepup.require(request, "role.given")
    tenant, role, email = find(pk), request.POST.get("role", ""), request.POST.get("email", "")
    with telling(request):
        member = tenant.members.select_related("user").filter(user__email=normalise_email(email)).first()
        if member is None:
            made = invitations.invite(actor=actor_of(request), tenant=tenant, email=email, role=role)
            messages.success(request, f"{made.email} is invited as {role}.")
        else:
            membership.set_role(actor=actor_of(request), tenant=tenant, user=member.user, role=role)
            messages.success(request, f"{member.user.email} is {role} now.")
    return redirect("admin:tenants_tenant_change", pk)


def remove_view(request: HttpRequest, pk: int, member: UUID) -> HttpResponse:
    """Remove a member."""
    row = get_object_or_404(Member.objects.select_related("tenant", "user"), tenant_id=pk, public_id=member)
    if effect := stepup.of_role(row.role, None):
        stepup.require(request, effect)
    with telling(request):
        membership.remove(actor=actor_of(request), member=row)
        messages.success(request, f"{row.user.email} was removed.")
    return redirect("admin:tenants_tenant_change", pk)
