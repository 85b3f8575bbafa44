"""A tenant's provider, model, extra configuration and what it may connect to. Keys go in and never come out."""

from __future__ import annotations

import json
from typing import Any, cast

from django import forms
from django.contrib import messages
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect
from django.utils.translation import gettext as _
from django.utils.translation import gettext_noop

from tenants import configuration, origins, words
from tenants.access import can
from tenants.admin.site import actor_of, find, page, refused_in
from tenants.agents.extra import parse
from tenants.egress import policy
from tenants.models import Run, Tenant, TenantSecret
from tenants.providers import PROVIDERS
from tenants.states import Egress
from vault.models import Secret
from zcplatform.lib.actors import Actor
from zcplatform.lib.errors import InvalidField
from zcplatform.lib.redact import SecretStr

PROVIDER_FIELDS = {"provider", "model", "base_url", "provider_key", "remove_key"}
EGRESS_FIELDS = ("egress", "egress_hosts")
OTHER_FIELDS = {"extra_config": "extra", "egress": "egress", "egress_hosts": "egress_hosts"}


HIDDEN = gettext_noop("entered for another address; enter it again")


class SecretField(forms.CharField):
    """Write-only: rendered empty whatever is stored, and empty means "as it was"."""

    def __init__(self, **kwargs: Any) -> None:
        widget = forms.PasswordInput(render_value=False, attrs={"autocomplete": "new-password"})
        super().__init__(widget=widget, strip=True, **kwargs)


def told(secret: Secret | None) -> str:
    """What may be said of a stored secret: that it is there, since when, and at most its last four characters."""
    if secret is None:
        return _("not set")
    text = _("set %(ago)s") % {"ago": words.ago(secret.updated_at)}
    return _("%(set)s, ends in …%(hint)s") % {"set": text, "hint": secret.hint} if secret.hint else text


def told_tie(tie: TenantSecret | None) -> str:
    """The same of a tenant's secret, which may have been entered for another address than it would go to now."""
    if tie is not None and origins.is_hidden(tie):
        return _(HIDDEN)
    return told(tie.secret if tie else None)


def key_of(tenant: Tenant) -> TenantSecret | None:
    """The provider's key, as it is tied to the tenant."""
    return tenant.secrets.filter(channel=None, field="provider_key").select_related("secret", "tenant__config").first()


def told_key(tenant: Tenant) -> str:
    """The provider's key, in the words of ``told``."""
    return told_tie(key_of(tenant))


def state_of(stored: str) -> str:
    """What a field for a secret says of the one that is there, in the words of ``told``."""
    if stored == _(HIDDEN):
        return _("Now: %(stored)s.") % {"stored": stored}
    return _("Now: %(stored)s. Empty leaves it as it is.") % {"stored": stored}


class HostsField(forms.CharField):
    """A list of hosts, one a line."""

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(widget=forms.Textarea(attrs={"rows": 4, "spellcheck": "false"}), max_length=40_000, **kwargs)

    def prepare_value(self, value: Any) -> Any:
        return "\n".join(value) if isinstance(value, list) else value

    def to_python(self, value: Any) -> Any:
        return value if isinstance(value, list) else (super().to_python(value) or "").split()

    def run_validators(self, value: Any) -> None:
        super().run_validators("\n".join(value))

    def has_changed(self, initial: Any, data: Any) -> bool:
        return not self.disabled and bool(self.to_python(data) != (initial or []))


class ConfigurationForm(forms.Form):
    provider = forms.ChoiceField(
        required=False, choices=[("", "None"), *((k.name, k.label) for k in PROVIDERS.values() if k.has_model)]
    )
    model = forms.CharField(required=False, max_length=120)
    base_url = forms.CharField(
        required=False, label="Address", max_length=300, help_text="Only for a provider that has none of its own."
    )
    provider_key = SecretField(required=False, label="API key", max_length=1_000)
    remove_key = forms.BooleanField(required=False, label="Remove the stored key")
    extra_config = forms.CharField(
        required=False, label="Extra configuration", widget=forms.Textarea(attrs={"rows": 8, "spellcheck": "false"})
    )

    egress = forms.ChoiceField(required=False, label="May connect to")
    egress_hosts = HostsField(
        required=False,
        label="Listed hosts",
        help_text="One a line, such as api.example.com, *.example.org or db.example.net:5432. For “listed hosts” only.",
    )

    def __init__(self, data: Any, tenant: Tenant, actor: Actor | None = None) -> None:
        """Without ``actor`` it is about the model alone, and asks nothing of what the agent may connect to."""
        config = tenant.config
        initial = {
            "provider": config.provider_name if config.provider_name != "demo" else "",
            "model": config.provider_model,
            "base_url": config.base_url,
            "extra_config": json.dumps(config.extra_config, indent=2, ensure_ascii=False),
            "egress": config.egress,
            "egress_hosts": config.egress_hosts,
        }
        super().__init__(data, initial=initial)
        stored = key_of(tenant)
        self.fields["provider_key"].help_text = state_of(told_tie(stored))
        if stored is None:
            del self.fields["remove_key"]  # nothing is there to be removed
        self.fields["extra_config"].help_text = _("A JSON object with the agent's own options; {} for none.")
        if actor:
            self._offer_egress(tenant, actor)
        else:
            for name in EGRESS_FIELDS:
                del self.fields[name]

    def _offer_egress(self, tenant: Tenant, actor: Actor) -> None:
        """The modes that the actor may choose; who may choose none sees what is."""
        default, now = policy.default_of(tenant.plan.slug), tenant.config.egress
        modes = [m for m in Egress if actor.unrestricted or m == now or not policy.is_looser(m, default)]
        as_planned = _("As the plan says: %(mode)s") % {"mode": _(default.label)}
        choices = [("", as_planned), *((mode.value, mode.label) for mode in modes)]
        cast(forms.ChoiceField, self.fields["egress"]).choices = choices
        may = can(actor, "egress.update", tenant)
        for name in EGRESS_FIELDS:  # what was not sent was not asked for: silence widens nothing
            self.fields[name].disabled = not may or (self.is_bound and name not in self.data)

    def clean_extra_config(self) -> dict[str, Any]:
        try:
            return parse(self.cleaned_data["extra_config"] or "{}")
        except InvalidField as error:
            raise forms.ValidationError(error.message) from error

    def asked(self) -> configuration.ConfigInput:
        """What was changed; everything about the provider goes together."""
        data = self.cleaned_data
        others = {column: data[name] for name, column in OTHER_FIELDS.items() if name in self.changed_data}
        if not PROVIDER_FIELDS & set(self.changed_data):
            return configuration.ConfigInput(**others)
        key = SecretStr(data["provider_key"]) if data["provider_key"] else None
        return configuration.ConfigInput(
            provider=data["provider"],
            model=data["model"],
            base_url=data["base_url"],
            provider_key=SecretStr("") if data.get("remove_key") and key is None else key,
            **others,
        )


def configuration_view(request: HttpRequest, pk: int) -> HttpResponse:
    """GET the form; POST stores what was changed and applies it."""
    tenant = find(pk)
    form = ConfigurationForm(request.POST or None, tenant=tenant, actor=actor_of(request))
    if request.method == "POST" and form.is_valid():
        with refused_in(form):
            if form.has_changed():
                run = configuration.update(actor=actor_of(request), tenant=tenant, given=form.asked())
                applied(request, "Configuration stored", run)
            return redirect("admin:tenants_tenant_change", pk)
    title = f"Configuration of {tenant.slug}"
    return page(request, "form.html", title=title, tenant=tenant, form=form, button="Save and apply")


def applied(request: HttpRequest, what: str, run: Run | None) -> None:
    """Say that it is stored, and when the agent will have it."""
    when = "it is being applied." if run else "it takes effect at the next start."
    messages.success(request, f"{what}; {when}")
