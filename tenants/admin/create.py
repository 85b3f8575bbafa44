"""A new tenant, and its access token on the one page that ever shows it."""

from __future__ import annotations

import json
from typing import Any
from uuid import uuid4

from django import forms
from django.contrib import messages
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect

from accounts.idempotency import fingerprint_of, run_once
from tenants import services
from tenants.admin.site import actor_of, page, refused_in
from tenants.agents import kinds
from tenants.models import Node, Plan
from zcplatform.lib.errors import InvalidField


class TenantForm(forms.Form):
    name = forms.CharField(max_length=100)
    slug = forms.CharField(
        max_length=30,
        required=False,
        help_text="The first label of its address; made from the name when empty. It stays as it is.",
    )
    plan = forms.ModelChoiceField(Plan.objects.order_by("memory_limit_mb", "name"), empty_label=None)
    agent = forms.ChoiceField()
    runtime = forms.ChoiceField(help_text="The node with the most free slots is taken.")
    owner = forms.EmailField(required=False, help_text="Who is invited to be owner; you, when empty.")
    deploy_now = forms.BooleanField(required=False, initial=True, help_text="Or configure it first and deploy later.")
    key = forms.CharField(widget=forms.HiddenInput, max_length=64)

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        agents = kinds().values()
        self.fields["agent"].choices = [(k.name, f"{k.label} (from {k.min_memory_mb} MB)") for k in agents]  # type: ignore[attr-defined]
        active = Node.objects.filter(state=Node.State.ACTIVE).order_by("runtime").values_list("runtime", flat=True)
        self.fields["runtime"].choices = [(name, name) for name in dict.fromkeys(active)]  # type: ignore[attr-defined]


def create_view(request: HttpRequest) -> HttpResponse:
    """GET the form; POST makes the tenant once, however often it is sent."""
    form = TenantForm(request.POST or None, initial={"key": uuid4().hex})
    if request.method == "POST" and form.is_valid():
        with refused_in(form):
            return _created(request, form)
    return page(request, "form.html", title="New tenant", form=form, button="Create tenant")


def _created(request: HttpRequest, form: TenantForm) -> HttpResponse:
    data, made = form.cleaned_data, []

    def act() -> tuple[int, dict[str, int]]:
        made.append(_create(request, data))
        return 201, {"tenant": made[0].tenant.pk}

    scope = f"admin:tenant:{request.user.pk}"
    try:
        _status, body, again = run_once(scope, data["key"], _fingerprint(data), act)
    except InvalidField as error:
        if error.type != "idempotency_mismatch":
            raise
        form.data = request.POST.copy()
        form.data["key"] = uuid4().hex  # who means it sends it again, as another form
        raise InvalidField("This form has made a tenant already; send it again to make another one.") from error
    if again:
        messages.warning(request, "This form was sent before: the tenant is made, and its token is not shown again.")
        return redirect("admin:tenants_tenant_change", body["tenant"])
    tenant = made[0].tenant
    answer = page(
        request, "created.html", title=f"New tenant {tenant.slug}", tenant=tenant, token=made[0].access_token.reveal()
    )
    answer["Cache-Control"] = "no-store, private"
    return answer


def _fingerprint(data: dict[str, Any]) -> str:
    """The same form, or another one that was sent under the same key."""
    asked = {name: getattr(value, "pk", value) for name, value in data.items() if name != "key"}
    return fingerprint_of("POST", "tenant", json.dumps(asked, sort_keys=True).encode())


def _create(request: HttpRequest, data: dict[str, Any]) -> services.Created:
    return services.create_tenant(
        actor=actor_of(request),
        name=data["name"],
        slug=data["slug"] or None,
        plan=data["plan"].slug,
        agent=data["agent"],
        runtime=data["runtime"],
        owner=data["owner"] or None,
        deploy_now=data["deploy_now"],
    )
