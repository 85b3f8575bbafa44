"""A tenant's members: added, given another role, removed; from the tenant's page."""

from __future__ import annotations

from uuid import UUID

from django import forms
from django.contrib import messages
from django.http import HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, redirect

from accounts import stepup
from accounts.models import Role
from accounts.permissions import ROLES
from tenants import membership
from tenants.admin.create import user_with
from tenants.admin.site import actor_of, find, telling
from tenants.models import Member


def role_choices() -> list[tuple[str, str]]:
    """The built-in roles, then the platform's own."""
    custom = Role.objects.order_by("label").values_list("name", "label")
    return [(name, name) for name in ROLES] + list(custom)


def set_view(request: HttpRequest, pk: int) -> HttpResponse:
    """Add a member by e-mail, or change a role."""
    stepup.require(request)
    tenant, role = find(pk), request.POST.get("role", "")
    try:
        user = user_with(request.POST.get("email", ""))
    except forms.ValidationError as error:
        messages.error(request, " ".join(error.messages))
        return redirect("admin:tenants_tenant_change", pk)
    with telling(request):
        membership.set_role(actor=actor_of(request), tenant=tenant, user=user, role=role)
        messages.success(request, f"{user.email} is {role} now.")
    return redirect("admin:tenants_tenant_change", pk)


def remove_view(request: HttpRequest, pk: int, member: UUID) -> HttpResponse:
    """Remove a member."""
    row = get_object_or_404(Member.objects.select_related("tenant", "user"), tenant_id=pk, public_id=member)
    with telling(request):
        membership.remove(actor=actor_of(request), member=row)
        messages.success(request, f"{row.user.email} was removed.")
    return redirect("admin:tenants_tenant_change", pk)
