"""A new tenant in four steps: name and plan, model, channels, review.

The first step makes the draft; the others configure it, so that leaving and coming back loses nothing and every test
is a real one, with the services that a later change uses too.
"""

from __future__ import annotations

import json
from typing import Any
from uuid import uuid4

from django import forms
from django.conf import settings
from django.contrib import messages
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from accounts import once
from accounts.idempotency import fingerprint_of, run_once
from tenants import configuration, offer, services
from tenants.admin.channels import rows_of
from tenants.admin.configuration import told_key
from tenants.admin.site import refused_in, telling
from tenants.agents import kinds
from tenants.agents.base import AgentKind
from tenants.models import Node, Plan, Tenant
from tenants.pages.bars import cores, short
from tenants.pages.channels import kinds_for
from tenants.pages.configuration import kept_form, tested
from tenants.pages.frame import Viewer, actor_of, address, show, signed_in, tenant_page
from tenants.pages.listing import may_create
from tenants.pages.overview import agent_label
from tenants.providers import PROVIDERS
from tenants.states import Status
from zcplatform.lib.actors import Actor
from zcplatform.lib.errors import InvalidField

STEPS = (gettext_lazy("Name and plan"), gettext_lazy("Model"), gettext_lazy("Channels"), gettext_lazy("Review"))


class StartForm(forms.Form):
    """Name, plan and agent; where there is a choice, the runtime; for super-admins, the owner."""

    name = forms.CharField(max_length=100, label=gettext_lazy("Name"))
    slug = forms.CharField(
        max_length=30,
        required=False,
        label=gettext_lazy("Slug"),
        help_text=gettext_lazy("The first label of its address, made from the name when empty. It stays as it is."),
    )
    plan = forms.ChoiceField(label=gettext_lazy("Plan"))
    agent = forms.ChoiceField(label=gettext_lazy("Agent"))
    runtime = forms.ChoiceField(label=gettext_lazy("Runtime"))
    owner = forms.EmailField(
        required=False,
        label=gettext_lazy("Owner"),
        help_text=gettext_lazy("Who is invited to be owner; you, when empty."),
    )
    key = forms.CharField(widget=forms.HiddenInput, max_length=64)

    def __init__(self, data: Any, *, actor: Actor, key: str) -> None:
        super().__init__(data, initial={"key": key[:64]})
        self.fields["plan"].choices = _plans(actor)  # type: ignore[attr-defined]
        self.fields["agent"].choices = [(k.name, f"{k.label}, {_from_mb(k.min_memory_mb)}") for k in _agents(actor)]  # type: ignore[attr-defined]
        runtimes = _runtimes(actor)
        self.fields["runtime"].choices = [(name, name) for name in runtimes]  # type: ignore[attr-defined]
        if len(runtimes) < 2:
            del self.fields["runtime"]
        if not actor.unrestricted:
            del self.fields["owner"]


def _from_mb(megabytes: int) -> str:
    return _("from %(mb)s MB") % {"mb": megabytes}


def _agents(actor: Actor) -> list[AgentKind]:
    return [kinds()[name] for name in offer.choices(actor, kinds(), settings.SIGNUP_AGENTS)]


def _plans(actor: Actor) -> list[tuple[str, str]]:
    rows = Plan.objects.order_by("memory_limit_mb", "name")
    if offer.binds(actor):
        rows = rows.filter(slug__in=settings.SIGNUP_PLANS)
    text = _("%(name)s: %(mb)s MB memory, %(cores)s, %(messages)s messages a day, %(tokens)s tokens a month")
    return [
        (
            plan.slug,
            text
            % {
                "name": plan.name,
                "mb": f"{plan.memory_limit_mb:,}".replace(",", " "),
                "cores": cores(plan.cpu_limit),
                "messages": short(plan.max_messages_per_day),
                "tokens": short(plan.max_tokens_per_month),
            },
        )
        for plan in rows
    ]


def _runtimes(actor: Actor) -> list[str]:
    active = Node.objects.filter(state=Node.State.ACTIVE).order_by("runtime").values_list("runtime", flat=True)
    return offer.choices(actor, dict.fromkeys(active), offer.runtimes())


@signed_in("GET", "HEAD", "POST")
def start_view(request: HttpRequest) -> HttpResponse:
    """GET the first step; POST makes the draft once and leads to the one page that ever shows its token."""
    actor = actor_of(request)
    if not may_create(actor):
        return render(request, "tenants/pages/may_not_create.html", status=403)
    if request.method != "POST" and not request.GET.get("key"):
        return redirect(f"{request.path}?key={uuid4().hex}")  # one for each wizard, also for who comes back to its form
    form = StartForm(request.POST or None, actor=actor, key=request.GET.get("key", ""))
    if request.method == "POST" and form.is_valid():
        with refused_in(form):
            return _created(request, form)
    return render(request, "tenants/pages/wizard_start.html", {"form": form, "steps": steps(0)})


def steps(now: int) -> list[tuple[str, str]]:
    """Each step with done, now or to-come."""
    return [(str(name), "done" if at < now else "now" if at == now else "to-come") for at, name in enumerate(STEPS)]


def _created(request: HttpRequest, form: StartForm) -> HttpResponse:
    data, made = form.cleaned_data, list[services.Created]()

    def act() -> tuple[int, dict[str, str]]:
        made.append(
            services.create_tenant(
                actor=actor_of(request),
                name=data["name"],
                slug=data["slug"] or None,
                plan=data["plan"],
                agent=data["agent"],
                runtime=data.get("runtime") or next(iter(_runtimes(actor_of(request))), None),
                owner=data.get("owner") or None,
            )
        )
        return 201, {"slug": made[0].tenant.slug}

    told = {name: getattr(value, "pk", value) for name, value in data.items() if name != "key"}
    asked = fingerprint_of("POST", "tenant", json.dumps(told, sort_keys=True).encode())
    try:
        _status, body, again = run_once(f"page:tenant:{request.user.pk}", data["key"], asked, act)
    except InvalidField as error:
        if error.type != "idempotency_mismatch":
            raise
        form.data = request.POST.copy()
        form.data["key"] = uuid4().hex  # who means it sends it again, as another form
        raise InvalidField(_("This form has made a tenant already; send it again to make another one.")) from error
    if again:
        messages.warning(request, _("This form was sent before: the draft is made, and its token is not shown again."))
        return redirect("tenant_setup_model", body["slug"])
    once.keep(request, f"token:{made[0].tenant.public_id}", made[0].access_token.reveal())
    return redirect("tenant_setup_token", body["slug"])


@tenant_page("tokens.manage", "GET")
def token_view(request: HttpRequest, tenant: Tenant, viewer: Viewer) -> HttpResponse:
    """The first access token, to whoever made the tenant just now; whoever comes back is told where to make another."""
    context = {"tenant": tenant, "token": once.take(request, f"token:{tenant.public_id}"), "steps": steps(1)}
    return render(request, "tenants/pages/wizard_token.html", context)


@tenant_page("config.update", "GET", "HEAD", "POST")
def model_view(request: HttpRequest, tenant: Tenant, viewer: Viewer) -> HttpResponse:
    """The provider, its key and the model, with a real test; the demo agent needs none."""
    form, context = kept_form(request, tenant), dict[str, Any]()
    if request.method == "POST" and form.is_valid():
        with refused_in(form):
            if request.POST.get("do") == "test":
                context = tested(tenant, viewer, form)
            else:
                if form.has_changed():
                    configuration.update(actor=viewer.actor, tenant=tenant, given=form.asked())
                return redirect("tenant_setup_channels", tenant.slug)
    needs_none = tenant.agent_kind == "demo"
    context |= {"form": form, "steps": steps(1), "agent": agent_label(tenant.agent_kind), "needs_none": needs_none}
    return show(request, "wizard_model.html", tenant, viewer, "", **context)


@tenant_page("channels.update")
def channels_view(request: HttpRequest, tenant: Tenant, viewer: Viewer) -> HttpResponse:
    """Channels may wait."""
    context = {"rows": rows_of(tenant), "kinds": kinds_for(tenant), "steps": steps(2)}
    return show(request, "wizard_channels.html", tenant, viewer, "", **context)


@tenant_page("tenant.deploy", "GET", "HEAD", "POST")
def review_view(request: HttpRequest, tenant: Tenant, viewer: Viewer) -> HttpResponse:
    """GET what was chosen; POST deploys and leads to the run."""
    if request.method == "POST":
        with telling(request):
            run = services.deploy(actor=viewer.actor, tenant=tenant)
            return redirect("run", run.public_id)
        return redirect(address(tenant, "setup_review"))
    if tenant.status != Status.DRAFT:
        return redirect(address(tenant))
    provider = PROVIDERS.get(tenant.config.provider_name)
    context = {
        "steps": steps(3),
        "agent": agent_label(tenant.agent_kind),
        "provider": provider.label if provider and provider.has_model else "",
        "provider_key": told_key(tenant),
        "rows": rows_of(tenant),
    }
    return show(request, "wizard_review.html", tenant, viewer, "", **context)
