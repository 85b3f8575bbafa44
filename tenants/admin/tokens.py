"""A tenant's access tokens: made, shown once, revoked; from the tenant's page."""

from __future__ import annotations

from datetime import timedelta
from typing import Any
from uuid import UUID

from django import forms
from django.contrib import messages
from django.http import HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, redirect

from accounts import stepup
from accounts.idempotency import fingerprint_of, run_once
from tenants import access_tokens
from tenants.admin.site import actor_of, find, page, telling
from tenants.models import AccessToken, Tenant
from zcplatform.lib import clock
from zcplatform.lib.redact import SecretStr


class TokenForm(forms.Form):
    name = forms.CharField(max_length=80)
    days = forms.IntegerField(min_value=1, max_value=3_650, required=False)
    key = forms.CharField(max_length=64)


def issue_view(request: HttpRequest, pk: int) -> HttpResponse:
    """Make a token once, however often the form is sent, and show it on the one page that ever does."""
    tenant, form = find(pk), TokenForm(request.POST)
    if form.is_valid():
        stepup.require(request, "bearer.made")
        with telling(request):
            return _issued(request, tenant, form.cleaned_data)
    for name, errors in form.errors.items():
        text = " ".join(map(str, errors))
        messages.error(request, f"{name.capitalize()}: {text}")
    return redirect("admin:tenants_tenant_change", pk)


def revoke_view(request: HttpRequest, pk: int, token: UUID) -> HttpResponse:
    """End a token."""
    row = get_object_or_404(AccessToken.objects.select_related("tenant"), tenant_id=pk, public_id=token)
    with telling(request):
        access_tokens.revoke(actor=actor_of(request), token=row)
        messages.success(request, f"The token {row.prefix}… ({row.name}) is revoked.")
    return redirect("admin:tenants_tenant_change", pk)


def _issued(request: HttpRequest, tenant: Tenant, data: dict[str, Any]) -> HttpResponse:
    made: list[SecretStr] = []
    end = clock.now() + timedelta(days=data["days"]) if data["days"] else None

    def act() -> tuple[int, None]:
        made.append(access_tokens.issue(actor=actor_of(request), tenant=tenant, name=data["name"], expires_at=end)[1])
        return 201, None

    asked = fingerprint_of("POST", "token", f"{data['days']} {data['name']}".encode())
    _status, _body, again = run_once(f"admin:token:{request.user.pk}:{tenant.pk}", data["key"], asked, act)
    if again:
        messages.warning(request, "This form was sent before: the token is made, and it is not shown again.")
        return redirect("admin:tenants_tenant_change", tenant.pk)
    answer = page(request, "token.html", title=f"New token of {tenant.slug}", tenant=tenant, token=made[0].reveal())
    answer["Cache-Control"] = "no-store, private"
    return answer
