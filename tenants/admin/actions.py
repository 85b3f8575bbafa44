"""What can be done to tenants, one or many: each verb is a service, asked about first where it hurts."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from django import forms
from django.conf import settings
from django.contrib import admin, messages
from django.contrib.admin import helpers
from django.db import transaction
from django.db.models import QuerySet
from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import redirect
from django.utils.translation import gettext as _

from accounts import stepup
from tenants import services
from tenants.admin.site import actor_of, find, page, telling
from tenants.models import Plan, Run, Tenant
from tenants.states import Desired, HoldKind, Status
from zcplatform.lib.actors import Actor
from zcplatform.lib.errors import ZCError

MAX_AT_ONCE = 100  # a page of the list; more would not fit into one form


class VerbForm(forms.Form):
    """What a verb asks for; it knows whom it is about."""

    def __init__(self, *args: Any, tenants: Sequence[Tenant], **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.tenants = tenants


class SuspendForm(VerbForm):
    hold = forms.ChoiceField(choices=HoldKind.choices, initial=HoldKind.OPERATOR)
    note = forms.CharField(required=False, max_length=200, help_text="Why; kept with the hold and in the audit.")


class ReactivateForm(VerbForm):
    hold = forms.ChoiceField(choices=HoldKind.choices, initial=HoldKind.OPERATOR, help_text="The hold to lift.")

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        held = [hold.kind for tenant in self.tenants for hold in tenant.holds.all() if not hold.lifted_at]
        if held and HoldKind.OPERATOR not in held:
            self.initial["hold"] = held[0]


class ResizeForm(VerbForm):
    """Begins with the present plan, so that who only looks changes nothing."""

    plan = forms.ModelChoiceField(Plan.objects.order_by("memory_limit_mb", "name"), empty_label=None)

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        if len({tenant.plan_id for tenant in self.tenants}) == 1:
            self.initial["plan"] = self.tenants[0].plan_id

    def clean_plan(self) -> Plan:
        plan: Plan = self.cleaned_data["plan"]
        if all(tenant.plan_id == plan.pk for tenant in self.tenants):
            raise forms.ValidationError(_("This is its plan already; nothing was changed."))
        return plan


class DeleteForm(VerbForm):
    typed = forms.CharField(
        max_length=100, widget=forms.TextInput(attrs={"autocomplete": "off", "spellcheck": "false"})
    )
    purge = forms.BooleanField(required=False, label="Delete the folder and the keys at once: it can't be brought back")

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.fields["typed"].label = _("Type “%(name)s” to go on") % {"name": self.phrase}

    @property
    def phrase(self) -> str:
        """What has to be typed: the name, or how many."""
        return self.tenants[0].slug if len(self.tenants) == 1 else f"delete {len(self.tenants)} tenants"

    def clean_typed(self) -> str:
        if self.cleaned_data["typed"] != self.phrase:
            raise forms.ValidationError(_("This is not “%(name)s”; nothing was deleted.") % {"name": self.phrase})
        return self.phrase


@dataclass(frozen=True)
class Verb:
    """``asks``: a page comes first, with ``form`` and ``notes`` on what will happen. ``danger``: it can't be undone, so
    whoever enrolled a second factor shows it again first."""

    name: str
    label: str
    done: str
    act: Callable[[Actor, Tenant, dict[str, Any]], object]
    form: type[VerbForm] = VerbForm
    asks: bool = False
    danger: bool = False
    notes: tuple[str, ...] = ()


def _delete(actor: Actor, tenant: Tenant, data: dict[str, Any]) -> object:
    return services.delete(actor=actor, tenant=tenant, purge=data["purge"])


def _suspend(actor: Actor, tenant: Tenant, data: dict[str, Any]) -> object:
    return services.suspend(actor=actor, tenant=tenant, hold=data["hold"], note=data["note"])


def _reactivate(actor: Actor, tenant: Tenant, data: dict[str, Any]) -> object:
    return services.reactivate(actor=actor, tenant=tenant, hold=data["hold"])


def _resize(actor: Actor, tenant: Tenant, data: dict[str, Any]) -> object:
    return services.resize(actor=actor, tenant=tenant, plan=data["plan"].slug)


def _plain(service: Callable[..., object]) -> Callable[[Actor, Tenant, dict[str, Any]], object]:
    return lambda actor, tenant, _data: service(actor=actor, tenant=tenant)


_VERBS = (
    Verb("deploy", "Deploy", "Deployment asked for", _plain(services.deploy)),
    Verb("start", "Start", "Start asked for", _plain(services.start)),
    Verb(
        "stop",
        "Stop",
        "Stop asked for",
        _plain(services.stop),
        asks=True,
        notes=("The agent stops and its address answers no more.", "A deployment under way is cancelled."),
    ),
    Verb("restart", "Restart", "Restart asked for", _plain(services.restart)),
    Verb(
        "suspend",
        "Suspend",
        "Suspension asked for",
        _suspend,
        SuspendForm,
        asks=True,
        notes=("The agent stops, and nobody can start it until the hold is lifted.", "Data and settings stay."),
    ),
    Verb(
        "reactivate",
        "Reactivate",
        "Reactivation asked for",
        _reactivate,
        ReactivateForm,
        asks=True,
        notes=("With the last hold lifted the tenant returns to what it was before.",),
    ),
    Verb(
        "resize",
        "Resize",
        "Resize asked for",
        _resize,
        ResizeForm,
        asks=True,
        notes=("A running agent is restarted with the new limits.",),
    ),
    Verb(
        "delete",
        "Delete",
        "Deletion asked for",
        _delete,
        DeleteForm,
        asks=True,
        danger=True,
        notes=(
            "Lost: the agent and its address, and every access token.",
            f"Kept for {settings.TRASH_DAYS} days, to be brought back: folder, settings, stored keys, members.",
            f"The audit stays, and its runs for {settings.HISTORY_DAYS} days. "
            "The slug, the port and the slot are free for others afterwards.",
        ),
    ),
)
VERBS: dict[str, Verb] = {verb.name: verb for verb in _VERBS}
BULK = ("deploy", "start", "stop", "restart", "suspend", "reactivate", "delete")


def offered(tenant: Tenant, *, busy: bool) -> tuple[str, list[str]]:
    """The one thing to do next (or nothing), and what else can be done, by name."""
    if tenant.desired == Desired.DELETED:
        return "", []
    if tenant.desired == Desired.SUSPENDED:
        return "reactivate", ["suspend", "delete"]
    if busy:
        return "", ["stop", "suspend", "delete"]
    if tenant.desired == Desired.STOPPED:
        return ("deploy" if tenant.status == Status.DRAFT else "start"), ["resize", "suspend", "delete"]
    if tenant.status == Status.RUNNING:
        return "restart", ["stop", "resize", "suspend", "delete"]
    return "deploy", ["stop", "resize", "suspend", "delete"]


def act_view(request: HttpRequest, pk: int, name: str) -> HttpResponse:
    """GET asks and changes nothing; POST acts."""
    tenant = find(pk)
    verb = VERBS.get(name)
    if verb is None:
        raise Http404
    if verb.danger:
        stepup.require(request, "tenant.gone")
    form = verb.form(request.POST if request.method == "POST" else None, tenants=[tenant])
    if request.method != "POST" or not form.is_valid():
        return _ask(request, verb, [tenant], form)
    perform(request, verb, [tenant], form.cleaned_data)
    return redirect("admin:tenants_tenant_change", tenant.pk)


def bulk(name: str) -> Callable[[Any, HttpRequest, QuerySet[Tenant]], HttpResponse | None]:
    """The verb as an action of the list."""
    verb = VERBS[name]

    @admin.action(description=f"{verb.label}…" if verb.asks else verb.label)
    def action(modeladmin: Any, request: HttpRequest, queryset: QuerySet[Tenant]) -> HttpResponse | None:
        tenants = list(
            queryset.select_related("plan", "node").prefetch_related("holds").order_by("slug")[: MAX_AT_ONCE + 1]
        )
        if len(tenants) > MAX_AT_ONCE:
            messages.error(request, f"At most {MAX_AT_ONCE} tenants at once; nothing was done.")
            return None
        if verb.danger:
            stepup.require(request, "tenant.gone")
        form = verb.form(request.POST if "sure" in request.POST else None, tenants=tenants)
        if not form.is_valid():
            return _ask(request, verb, tenants, form, action=f"bulk_{name}")
        if "dry" in request.POST:
            tried = [try_out(actor_of(request), verb, tenant, form.cleaned_data) for tenant in tenants]
            return _ask(request, verb, tenants, form, action=f"bulk_{name}", tried=tried)
        done = [carry_out(actor_of(request), verb, tenant, form.cleaned_data) for tenant in tenants]
        title = f"{verb.label}: {len([row for row in done if row.ok])} of {len(done)} asked for"
        return page(request, "done.html", title=title, verb=verb, done=done, tenant=None)

    action.__name__ = f"bulk_{name}"
    return action


@dataclass(frozen=True)
class Outcome:
    """What came of a verb on one of many tenants; ``run`` where there is one to follow."""

    tenant: Tenant
    ok: bool
    text: str
    run: Run | None = None


def carry_out(actor: Actor, verb: Verb, tenant: Tenant, data: dict[str, Any]) -> Outcome:
    """Do it to one of many: a refusal leaves the others alone."""
    try:
        result = verb.act(actor, tenant, data)
    except ZCError as error:
        return Outcome(tenant, False, error.message)
    return Outcome(tenant, True, verb.done, result if isinstance(result, Run) else None)


def try_out(actor: Actor, verb: Verb, tenant: Tenant, data: dict[str, Any]) -> Outcome:
    """What ``carry_out`` would answer: the same service, in a transaction that is taken back."""
    with transaction.atomic():
        found = carry_out(actor, verb, tenant, data)
        transaction.set_rollback(True)
    tenant.refresh_from_db()
    return Outcome(tenant, found.ok, "Would be asked for" if found.ok else found.text)


def perform(request: HttpRequest, verb: Verb, tenants: Sequence[Tenant], data: dict[str, Any]) -> None:
    """Do it to each on its own: one that is refused leaves the others alone. Tells what came of each."""
    done = []
    for tenant in tenants:
        with telling(request, f"Not done for {tenant.slug}"):
            verb.act(actor_of(request), tenant, data)
            done.append(tenant.slug)
    if done:
        messages.success(request, f"{verb.done}: {', '.join(done)}.")


def _ask(
    request: HttpRequest,
    verb: Verb,
    tenants: Sequence[Tenant],
    form: forms.Form,
    action: str = "",
    tried: Sequence[Outcome] = (),
) -> HttpResponse:
    whom = tenants[0].slug if len(tenants) == 1 else f"{len(tenants)} tenants"
    context: dict[str, Any] = {
        "verb": verb,
        "tenants": tenants,
        "tenant": None if action else tenants[0],
        "form": form,
        "button": f"{verb.label} {whom}",
        "action": action,
        "rows": tried or [Outcome(tenant, True, "") for tenant in tenants],
        "tried": bool(tried),
        "checkbox": helpers.ACTION_CHECKBOX_NAME,
    }
    return page(request, "ask.html", title=f"{verb.label} {whom}?", **context)
