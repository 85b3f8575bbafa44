"""A tenant's provider, model and extra configuration. Keys go in and never come out."""

from __future__ import annotations

import json
from typing import Any

from django import forms
from django.contrib import messages
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect
from django.utils.translation import gettext as _

from tenants import configuration, words
from tenants.admin.site import actor_of, find, page, refused_in
from tenants.agents.extra import parse
from tenants.models import Run, Tenant, TenantSecret
from tenants.providers import PROVIDERS
from vault.models import Secret
from zcplatform.lib.errors import InvalidField
from zcplatform.lib.redact import SecretStr

PROVIDER_FIELDS = {"provider", "model", "base_url", "provider_key", "remove_key"}


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


def told_key(tenant: Tenant) -> str:
    """The provider's key, in those words."""
    tie = TenantSecret.objects.filter(tenant=tenant, channel=None, field="provider_key").select_related("secret")
    return told(tie[0].secret if tie else None)


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

    def __init__(self, data: Any, tenant: Tenant) -> None:
        config = tenant.config
        initial = {
            "provider": config.provider_name if config.provider_name != "demo" else "",
            "model": config.provider_model,
            "base_url": config.base_url,
            "extra_config": json.dumps(config.extra_config, indent=2, ensure_ascii=False),
        }
        super().__init__(data, initial=initial)
        self.fields["provider_key"].help_text = _("Now: %(stored)s. Empty leaves it as it is.") % {
            "stored": told_key(tenant)
        }
        self.fields["extra_config"].help_text = _("A JSON object with the agent's own options; {} for none.")

    def clean_extra_config(self) -> dict[str, Any]:
        try:
            return parse(self.cleaned_data["extra_config"] or "{}")
        except InvalidField as error:
            raise forms.ValidationError(error.message) from error

    def asked(self) -> configuration.ConfigInput:
        """What was changed; everything about the provider goes together."""
        data = self.cleaned_data
        extra = data["extra_config"] if "extra_config" in self.changed_data else None
        if not PROVIDER_FIELDS & set(self.changed_data):
            return configuration.ConfigInput(extra=extra)
        key = SecretStr(data["provider_key"]) if data["provider_key"] else None
        return configuration.ConfigInput(
            provider=data["provider"],
            model=data["model"],
            base_url=data["base_url"],
            provider_key=SecretStr("") if data["remove_key"] and key is None else key,
            extra=extra,
        )


def configuration_view(request: HttpRequest, pk: int) -> HttpResponse:
    """GET the form; POST stores what was changed and applies it."""
    tenant = find(pk)
    form = ConfigurationForm(request.POST or None, tenant=tenant)
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
