"""A tenant's name, and whose it is."""

from __future__ import annotations

from typing import Any

from django import forms
from django.contrib import messages
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from tenants import membership, services
from tenants.admin.site import refused_in
from tenants.models import Tenant
from tenants.pages.frame import Viewer, address, show, tenant_page, to_step_up
from tenants.pages.members import find
from tenants.tokens import live


class RenameForm(forms.Form):
    name = forms.CharField(
        max_length=100,
        label=gettext_lazy("Name"),
        help_text=gettext_lazy("The short name and the address stay."),
        widget=forms.TextInput(attrs={"autocomplete": "off"}),
    )


class TransferForm(forms.Form):
    """To whom, and the typed name: the giver can't take it back."""

    to = forms.ChoiceField(label=gettext_lazy("New owner"))
    revoke_tokens = forms.BooleanField(
        required=False, label=gettext_lazy("Revoke every access token, so that nobody from before can chat by one")
    )
    typed = forms.CharField(
        max_length=100, widget=forms.TextInput(attrs={"autocomplete": "off", "spellcheck": "false"})
    )

    def __init__(self, data: Any, *, tenant: Tenant) -> None:
        super().__init__(data)
        rows = tenant.members.filter(user__is_active=True).exclude(role="owner").select_related("user")
        self.heirs = [(str(row.public_id), f"{row.user.email} ({row.role})") for row in rows.order_by("user__email")]
        self.fields["to"].choices = [("", _("Choose a member")), *self.heirs]  # type: ignore[attr-defined]
        self.slug = tenant.slug
        self.fields["typed"].label = _("Type “%(name)s” to go on") % {"name": tenant.slug}

    def clean_typed(self) -> str:
        if self.cleaned_data["typed"] != self.slug:
            raise forms.ValidationError(_("This is not “%(name)s”; nothing was handed over.") % {"name": self.slug})
        return self.slug


@tenant_page("tenant.update", "GET", "HEAD", "POST")
def rename_view(request: HttpRequest, tenant: Tenant, viewer: Viewer) -> HttpResponse:
    """GET asks; POST gives the name, and leads to the run where a running agent is told of it."""
    form = RenameForm(request.POST if request.method == "POST" else None, initial={"name": tenant.name})
    if request.method == "POST" and form.is_valid():
        with refused_in(form):
            return _renamed(request, tenant, viewer, form.cleaned_data["name"])
    context = {
        "title": _("Rename %(tenant)s") % {"tenant": tenant.slug},
        "notes": [_("A running agent restarts, so that it knows its new name.")],
        "button": _("Rename"),
        "form": form,
        "back": address(tenant),
    }
    return asked(request, tenant, viewer, "overview", **context)


def _renamed(request: HttpRequest, tenant: Tenant, viewer: Viewer, name: str) -> HttpResponse:
    before = tenant.name
    run = services.rename(actor=viewer.actor, tenant=tenant, name=name)
    if name.strip() == before:
        messages.info(request, _("Nothing was changed."))
    else:
        messages.success(request, _("The name is %(name)s now.") % {"name": name})
    return redirect("run", run.public_id) if run else redirect(address(tenant))


@tenant_page("tenant.transfer", "GET", "HEAD", "POST")
def transfer_view(request: HttpRequest, tenant: Tenant, viewer: Viewer) -> HttpResponse:
    """GET asks to whom; POST hands the tenant over. Both ask for the second factor first."""
    if step := to_step_up(request, address(tenant, "transfer")):
        return step
    form = TransferForm(request.POST if request.method == "POST" else None, tenant=tenant)
    if request.method == "POST" and form.is_valid():
        with refused_in(form):
            return _handed_over(request, tenant, viewer, form)
    mine = viewer.role == "owner"
    context: dict[str, Any] = {
        "title": _("Hand %(tenant)s over?") % {"tenant": tenant.slug},
        "notes": [
            _("The new owner may do everything, deleting it included."),
            _("You become manager, and can't take it back.") if mine else _("Every owner of now becomes manager."),
            *_tokens_that_stay(tenant),
        ],
        "button": _("Hand over"),
        "danger": True,
        "form": form,
        "back": address(tenant, "members"),
        "empty": "" if form.heirs else _("There is nobody to hand it to: invite the new owner as a member first."),
    }
    return asked(request, tenant, viewer, "members", **context)


def _tokens_that_stay(tenant: Tenant) -> list[str]:
    """Who made the access tokens that go on working."""
    makers = sorted(set(live().filter(tenant=tenant).values_list("created_by", flat=True)))
    text = _("Access tokens go on working unless they are revoked; they were made by %(makers)s.")
    return [text % {"makers": ", ".join(makers[:5])}] if makers else []


def _handed_over(request: HttpRequest, tenant: Tenant, viewer: Viewer, form: TransferForm) -> HttpResponse:
    heir = find(tenant, form.cleaned_data["to"])
    revoke = form.cleaned_data["revoke_tokens"]
    membership.transfer(actor=viewer.actor, tenant=tenant, to=heir, revoke_tokens=revoke)
    messages.success(request, _("%(email)s is the owner now.") % {"email": heir.user.email})
    return redirect(address(tenant, "members"))


def asked(request: HttpRequest, tenant: Tenant, viewer: Viewer, tab: str, **context: Any) -> HttpResponse:
    """A form of its own, which is a dialog where there is JavaScript; 422 when what was sent can't be used."""
    answer = show(request, "form.html", tenant, viewer, tab, **context)
    answer.status_code = 422 if context["form"].errors else 200
    return answer
