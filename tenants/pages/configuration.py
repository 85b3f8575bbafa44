"""A tenant's configuration: looked at, previewed, tested, changed, and taken back to what it was."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

from django.contrib import messages
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect
from django.utils.translation import gettext as _

from audit.actions import ACTIONS
from tenants import configuration, connections, preview, revisions, rollback
from tenants.admin.configuration import ConfigurationForm, SecretField
from tenants.admin.site import refused_in, telling
from tenants.channels import CHANNELS
from tenants.egress import policy
from tenants.egress.firewall import SHARED_NETWORK
from tenants.models import ConfigRevision, Run, Tenant
from tenants.pages.frame import Viewer, address, forbidden, show, tenant_page
from tenants.states import Desired, Egress
from zcplatform.lib.actors import Actor
from zcplatform.lib.errors import ZCError
from zcplatform.lib.redact import SecretStr

FIELDS = {
    "provider": "provider",
    "model": "model",
    "base_url": "address",
    "extra": "extra configuration",
    "egress": "may connect to",
    "egress_hosts": "listed hosts",
}


@dataclass(frozen=True)
class DiffLine:
    """``kind`` is plus, minus, place or empty."""

    kind: str
    text: str


@dataclass(frozen=True)
class Difference:
    """What a change would change in one file."""

    name: str
    change: str
    lines: list[DiffLine]


def kept_form(request: HttpRequest, tenant: Tenant, actor: Actor | None = None) -> ConfigurationForm:
    """The form; a key that was just typed stays in its field while the change is previewed or tested, and only then."""
    form = ConfigurationForm(request.POST or None, tenant=tenant, actor=actor)
    for field in form.fields.values():
        if isinstance(field, SecretField) and request.method == "POST":
            field.widget.render_value = True
    return form


@tenant_page("config.view", "GET", "HEAD", "POST")
def configuration_view(request: HttpRequest, tenant: Tenant, viewer: Viewer) -> HttpResponse:
    """GET the form; POST previews, tests or stores, by the button that was pressed."""
    if request.method == "POST" and not viewer.may["config_update"]:
        return forbidden(request, tenant, viewer, "config.update")
    form, context = kept_form(request, tenant, viewer.actor), dict[str, Any]()
    if request.method == "POST" and form.is_valid():
        with refused_in(form):
            asked = request.POST.get("do")
            if asked == "save":
                return save(request, tenant, viewer, form)
            context = tested(tenant, viewer, form) if asked == "test" else previewed(tenant, viewer, form)
    context |= {"form": form, "revision": tenant.revisions.order_by("-number").first(), "reach": reach(tenant)}
    return show(request, "configuration.html", tenant, viewer, "configuration", **context)


def save(request: HttpRequest, tenant: Tenant, viewer: Viewer, form: ConfigurationForm) -> HttpResponse:
    """Store what was changed; the change's own run is where it leads."""
    if not form.has_changed():
        messages.info(request, _("Nothing was changed."))
        return redirect(address(tenant, "configuration"))
    run = configuration.update(actor=viewer.actor, tenant=tenant, given=form.asked())
    return stored(request, tenant, run, _("Configuration stored"), "configuration")


def stored(request: HttpRequest, tenant: Tenant, run: Run | None, what: str, page: str) -> HttpResponse:
    """Say that it is stored, and when the agent will have it."""
    when = _("the agent restarts with it now.") if run else _("it takes effect at the next start.")
    messages.success(request, f"{what}; {when}")
    return redirect("run", run.public_id) if run else redirect(address(tenant, page))


def previewed(tenant: Tenant, viewer: Viewer, form: ConfigurationForm) -> dict[str, Any]:
    found = preview.preview(actor=viewer.actor, tenant=tenant, given=form.asked())
    files = [Difference(file.name, file.change, diff_lines(file.diff)) for file in found.files]
    return {"preview": found, "files": files, "egress": diff_lines(found.egress)}


def reach(tenant: Tenant) -> dict[str, Any]:
    """What its agent may connect to now: the mode that holds, what passes the proxy, and why nothing enforces it."""
    mode = policy.mode_of(tenant)
    through = [] if mode == Egress.OPEN else [str(target) for target in policy.policy_of(tenant).targets]
    loose = SHARED_NETWORK if tenant.node.runtime == "process" else ""
    return {"mode": mode, "own": bool(tenant.config.egress), "through": through, "loose": loose}


def tested(tenant: Tenant, viewer: Viewer, form: ConfigurationForm) -> dict[str, Any]:
    """The answer of a real call, or why it could not be made."""
    try:
        return {"test": connections.try_provider(actor=viewer.actor, tenant=tenant, given=form.asked())}
    except ZCError as error:
        return {"test": connections.Result(False, error.message)}


def diff_lines(text: str) -> list[DiffLine]:
    """A unified diff, each line with what it is."""
    kinds = {"+": "plus", "-": "minus", "@": "place"}
    lines = [line for line in text.splitlines() if not line.startswith(("+++", "---"))]
    return [DiffLine(kinds.get(line[:1], ""), line) for line in lines]


@tenant_page("config.view")
def history_view(request: HttpRequest, tenant: Tenant, viewer: Viewer) -> HttpResponse:
    """Each revision with what it changed against the one before."""
    rows = list(tenant.revisions.order_by("-number")[:51])
    pairs = zip(rows, [*rows[1:], None], strict=False)  # a tenant older than the history has none yet
    lines = [(row, ACTIONS.get(row.action, _("As it was found")), changed(before, row)) for row, before in pairs][:50]
    return show(request, "history.html", tenant, viewer, "configuration", lines=lines)


def changed(before: ConfigRevision | None, row: ConfigRevision) -> str:
    if before is None:
        return ""
    names = revisions.changes(before.snapshot, row.snapshot)
    told = dict.fromkeys(_("channels") if name.startswith("channels/") else FIELDS.get(name, name) for name in names)
    return ", ".join(told).replace("_", " ")


@tenant_page("config.update", "GET", "HEAD", "POST")
def rollback_view(request: HttpRequest, tenant: Tenant, viewer: Viewer, number: int) -> HttpResponse:
    """GET shows the revision beside the present; POST makes it the configuration again."""
    row = revisions.find(tenant, number)
    now = revisions.snapshot(tenant)
    if request.method == "POST":
        with telling(request):
            return _rolled_back(request, tenant, viewer, number)
        return redirect(address(tenant, "history"))
    rows = [(FIELDS[name], told(row.snapshot.get(name)), told(now.get(name))) for name in FIELDS]
    rows.append((_("channels"), kinds(row.snapshot), kinds(now)))
    foreseen = rollback.foresee(tenant, number)
    context = {"row": row, "rows": rows, "notes": notes_on(tenant, foreseen), "asks_key": foreseen.key == "missing"}
    return show(request, "rollback.html", tenant, viewer, "configuration", **context)


def notes_on(tenant: Tenant, foreseen: rollback.Foreseen) -> list[str]:
    """What the rollback would do to the secrets and to the agent, in words."""
    of_key = {
        "stays": _("The API key that is in use stays."),
        "returns": _("The API key that was entered for that address is in use again."),
        "missing": _("No API key is left that was entered for that address; enter it again."),
        "hidden": _("The stored API key was entered for another address and is not used."),
        "unused": _("The API key is not used any more; a later rollback can bring it back."),
    }
    notes = [of_key[foreseen.key]] if foreseen.key else []
    notes += [_("%(kind)s is removed with its secrets.") % {"kind": CHANNELS[kind].label} for kind in foreseen.removed]
    off = _("%(kind)s is off until its secrets are entered again.")
    notes += [off % {"kind": CHANNELS[kind].label} for kind in foreseen.incomplete]
    return [*notes, _("The agent restarts.")] if tenant.desired == Desired.RUNNING else notes


def _rolled_back(request: HttpRequest, tenant: Tenant, viewer: Viewer, number: int) -> HttpResponse:
    key = SecretStr(request.POST["provider_key"]) if request.POST.get("provider_key") else None
    done = rollback.rollback(actor=viewer.actor, tenant=tenant, number=number, provider_key=key)
    if done.incomplete:
        messages.warning(request, _("A channel lacks a secret and is off until it is entered again."))
    return stored(request, tenant, done.run, _("Revision %(number)s is back") % {"number": number}, "configuration")


def told(value: Any) -> str:
    if isinstance(value, list):
        value = ", ".join(map(str, value))
    if isinstance(value, dict):
        return json.dumps(value, ensure_ascii=False) if value else _("none")
    return str(value or _("none"))


def kinds(snapshot: dict[str, Any]) -> str:
    return ", ".join(channel["kind"] for channel in snapshot.get("channels", ())) or _("none")
