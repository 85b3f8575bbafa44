"""What the tenants' pages share: who looks, at which tenant, with which abilities; and the frame around each page."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from functools import cached_property, wraps
from typing import Any, TypeVar
from urllib.parse import urlencode
from uuid import UUID

from django.db.models import Model, QuerySet
from django.http import HttpRequest, HttpResponse, HttpResponseNotAllowed
from django.shortcuts import redirect, render
from django.urls import reverse
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from accounts import stepup
from accounts.auth import origin_of
from accounts.models import Role
from accounts.pages import to_login
from accounts.permissions import ABILITIES, ROLES, SUPER_ADMIN_ONLY, abilities_of
from tenants import words
from tenants.access import deny, role_in
from tenants.admin.actions import VERBS, Verb, offered
from tenants.models import Hold, Member, Tenant
from tenants.routing import router
from tenants.states import ACTIVE_RUN, Desired, Status
from zcplatform.lib.actors import Actor
from zcplatform.lib.errors import Forbidden, NotFound

View = Callable[..., HttpResponse]
Row = TypeVar("Row", bound=Model)
MOVING = (Status.DEPLOYING, Status.DELETING)

TABS = (
    ("overview", gettext_lazy("Overview"), "tenant.view"),
    ("configuration", gettext_lazy("Configuration"), "config.view"),
    ("channels", gettext_lazy("Channels"), "channels.view"),
    ("members", gettext_lazy("Members"), "members.view"),
    ("access", gettext_lazy("Access"), "tokens.manage"),
    ("pairing", gettext_lazy("Pairing"), "pairing.manage"),
    ("usage", gettext_lazy("Usage"), "metrics.view"),
    ("alerts", gettext_lazy("Alerts"), "alerts.manage"),
    ("logs", gettext_lazy("Logs"), "logs.read"),
    ("console", gettext_lazy("Console"), "exec.diagnostic"),
    ("runs", gettext_lazy("Runs"), "runs.view"),
    ("audit", gettext_lazy("Audit"), "audit.read"),
)


@dataclass(frozen=True)
class Viewer:
    """Who looks at a tenant. ``role`` is empty for a super-admin who is no member."""

    actor: Actor
    role: str

    @cached_property
    def abilities(self) -> frozenset[str]:
        return frozenset(ABILITIES) if self.actor.unrestricted else abilities_of(self.role)

    @cached_property
    def may(self) -> dict[str, bool]:
        """The abilities under names that a template can ask for: ``config_update``."""
        return {name.replace(".", "_"): name in self.abilities for name in ABILITIES}


def actor_of(request: HttpRequest) -> Actor:
    """The logged-in user as services and the audit know them."""
    return request.user.as_actor(**origin_of(request))  # type: ignore[union-attr]


def is_part(request: HttpRequest) -> bool:
    """Whether a page asks for a part of itself: another page must not be painted into it."""
    return "HX-Request" in request.headers


def signed_in(*methods: str) -> Callable[[View], View]:
    """A page for whoever is logged in; everybody else is sent to the login and comes back. A part of a page is 401."""

    def wrap(view: View) -> View:
        @wraps(view)
        def inner(request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponse:
            if not request.user.is_authenticated:
                if is_part(request):
                    return HttpResponse(status=401)
                return to_login(request, can_be_opened="GET" in methods)
            if request.method not in methods:
                return HttpResponseNotAllowed(methods)
            return view(request, *args, **kwargs)

        return inner

    return wrap


def tenant_page(ability: str, *methods: str) -> Callable[[View], View]:
    """A page of one tenant: called with request, tenant and viewer. NotFound for a stranger; for a member whose role
    does not reach, a page that says which does. ``methods`` are GET and HEAD unless given."""
    allowed = methods or ("GET", "HEAD")

    def wrap(view: View) -> View:
        @signed_in(*allowed)
        @wraps(view)
        def inner(request: HttpRequest, slug: str, *args: Any, **kwargs: Any) -> HttpResponse:
            tenant, viewer = look(request, slug)
            if ability not in viewer.abilities:
                return forbidden(request, tenant, viewer, ability)
            return view(request, tenant, viewer, *args, **kwargs)

        return inner

    return wrap


def look(request: HttpRequest, slug: str) -> tuple[Tenant, Viewer]:
    """The living tenant with this slug, and who looks at it. NotFound, also for a stranger."""
    actor = actor_of(request)
    rows = Tenant.objects.visible_to(actor).alive().select_related("plan", "node", "config")
    tenant = rows.filter(slug=slug).first()
    if tenant is None:
        raise NotFound
    return tenant, Viewer(actor, role_in(actor, tenant) or "")


def look_back(request: HttpRequest, slug: str) -> tuple[Tenant, Viewer]:
    """The tenant with the public id that the query names, deleted ones included, and who looks at it or could look
    until it was deleted. NotFound, also for a stranger."""
    with suppress(ValueError):
        rows = Tenant.objects.filter(public_id=UUID(request.GET.get("id", "")), slug=slug)
        tenant, actor = rows.select_related("plan", "node", "config").first(), actor_of(request)
        role = role_in(actor, tenant) or "" if tenant else ""
        if tenant and (role or actor.unrestricted):
            return tenant, Viewer(actor, role)
    raise NotFound


def forbidden(request: HttpRequest, tenant: Tenant, viewer: Viewer, ability: str) -> HttpResponse:
    """Which roles could, and who has them; the attempt is recorded as any other."""
    with suppress(Forbidden):
        deny(Forbidden("", ability=ability), actor=viewer.actor, ability=ability, tenant=tenant)
    roles = [name for name in (*ROLES, *custom_roles()) if ability in abilities_of(name)]
    who = Member.objects.filter(tenant=tenant, role__in=roles, user__is_active=True).select_related("user")
    context = {
        "what": ABILITIES[ability],
        "roles": roles,
        "platform_only": ability in SUPER_ADMIN_ONLY,
        "people": who.order_by("user__email")[:5] if viewer.may["members_view"] else [],
    }
    answer = show(request, "forbidden.html", tenant, viewer, "", **context)
    answer.status_code = 403
    return answer


def custom_roles() -> list[str]:
    return list(Role.objects.order_by("name").values_list("name", flat=True))


def show(request: HttpRequest, template: str, tenant: Tenant, viewer: Viewer, tab: str, **context: Any) -> HttpResponse:
    """A page in the tenant's frame: state first, then the tabs that the viewer may open."""
    tabs = [(name, label, address(tenant, name)) for name, label, ability in TABS if ability in viewer.abilities]
    frame = {"tabs": tabs, "tab": tab, **head(tenant, viewer)}
    return render(request, f"tenants/pages/{template}", {**frame, **context})


def confirm(
    request: HttpRequest,
    tenant: Tenant,
    viewer: Viewer,
    tab: str,
    *,
    title: str,
    notes: list[str],
    button: str,
    back: str,
) -> HttpResponse:
    """The question before what can't be undone: ``notes`` say what is lost, ``button`` acts, Cancel leads ``back``."""
    context = {"title": title, "notes": notes, "button": button, "back": back}
    return show(request, "confirm.html", tenant, viewer, tab, **context)


def head(tenant: Tenant, viewer: Viewer) -> dict[str, Any]:
    """State, reason and what can be done now, for those who may do it."""
    run = tenant.runs.filter(status__in=ACTIVE_RUN).order_by("-pk").first()
    primary, others = offered(tenant, busy=run is not None)
    allowed = [VERBS[name] for name in (primary, *others) if name and can_do(viewer, name)]
    first = allowed[0] if allowed and allowed[0].name == primary else None
    return {
        "tenant": tenant,
        "viewer": viewer,
        "may": viewer.may,
        "headline": words.headline(tenant),
        "holds": holds_of(tenant),
        "next_step": words.next_step(tenant),
        "primary": first,
        "verbs": [verb for verb in allowed if verb is not first],
        "active_run": run,
        "moving": run is not None or tenant.status in MOVING,
        "address": router().url(tenant.slug) if tenant.routed else "",
    }


def holds_of(tenant: Tenant) -> list[Hold]:
    """Why it must not run: each hold that is not lifted, the oldest first. Whoever has one is meant to be suspended."""
    if tenant.desired != Desired.SUSPENDED:
        return []
    return list(tenant.holds.filter(lifted_at__isnull=True).order_by("set_at"))


def can_do(viewer: Viewer, verb: str) -> bool:
    return f"tenant.{verb}" in viewer.abilities


def address(tenant: Tenant, name: str = "overview", *args: Any) -> str:
    """The path of one of the tenant's pages."""
    return reverse(f"tenant_{name}", args=[tenant.slug, *args])


def to_step_up(request: HttpRequest, back: str = "") -> HttpResponse | None:
    """None when the second factor was shown lately or is not asked for; else the way to show it and come back."""
    if stepup.is_fresh(request):
        return None
    return redirect(f"/login/again?{urlencode({'next': back or request.get_full_path()})}")


def needs_step_up(verb: Verb) -> bool:
    return verb.name in ("delete",)


def said(verb: Verb, tenant: Tenant) -> str:
    """What is true right after an act was accepted: that it was asked for."""
    return _("%(what)s for %(tenant)s.") % {"what": _(verb.done), "tenant": tenant.slug}


def own(rows: QuerySet[Row], tenant: Tenant, public_id: UUID) -> Row:
    """That one of the tenant's rows. NotFound for another tenant's, as for one that is none."""
    row = rows.filter(tenant=tenant, public_id=public_id).first()
    if row is None:
        raise NotFound
    row.tenant = tenant  # type: ignore[attr-defined]
    return row
