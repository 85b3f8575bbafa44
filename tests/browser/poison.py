"""A script in every text that a person or a program could have written, stored past every check.

``FREE`` names those columns, ``OURS`` those that hold the platform's own words, names and hashes; a test holds the two
against the models, so that a new column has to be put into one of them.
"""

from __future__ import annotations

from typing import Any

SCRIPT = "'\"><img src=x onerror=pwned=1>"
"""Fits the shortest column."""
LONG = SCRIPT + "<script>pwned=1</script><svg onload=pwned=1></svg><b hx-get=/x hx-trigger=load hx-on:load=pwned=1>"

FREE: dict[str, tuple[str, ...]] = {
    "accounts.User": ("name",),
    "accounts.Role": ("label",),
    "accounts.Login": ("user_agent",),
    "accounts.ApiKey": ("name",),
    "accounts.Mail": ("subject", "error"),
    "accounts.AppDevice": ("name",),
    "vault.Secret": ("hint",),
    "tenants.ConfigRevision": ("actor", "snapshot"),
    "tenants.JobResult": ("detail",),
    "tenants.Node": ("name", "address"),
    "tenants.Plan": ("name",),
    "tenants.Tenant": ("name", "detail"),
    "tenants.Hold": ("note", "set_by", "lifted_by"),
    "tenants.AgentConfig": ("provider_model", "base_url", "extra_config", "egress_hosts"),
    "tenants.Channel": ("config",),
    "tenants.AccessToken": ("name", "created_by"),
    "tenants.Run": ("actor", "error", "request_id"),
    "tenants.StepRecord": ("error",),
    "tenants.Event": ("data",),
    "monitoring.AlertRule": ("name",),
    "monitoring.Notifier": ("name", "config"),
    "monitoring.Alert": ("label", "name", "condition", "acked_by"),
    "monitoring.Silence": ("note", "created_by"),
    "monitoring.Delivery": ("message", "error"),
    "monitoring.Sweep": ("error",),
}
# The audit can't be changed: what is hostile in it is recorded, see ``poison``.
OURS: dict[str, tuple[str, ...]] = {
    "audit.AuditEntry": (
        *("actor_id", "actor_email", "action", "outcome", "resource_type", "resource_id", "resource_name", "tenant_id"),
        *("ip_address", "request_id", "detail_json", "previous_hash", "hash"),
    ),
    "audit.Checkpoint": ("previous_hash", "last_hash", "file_name", "sha256", "public_key", "signature"),
    "accounts.User": ("password", "email"),
    "accounts.Role": ("name", "abilities"),
    "accounts.LoginLink": ("token_hash",),
    "accounts.IdempotencyKey": ("scope", "key", "fingerprint", "response", "grants"),
    "accounts.Login": ("session_key",),
    "accounts.RefreshToken": ("token_hash",),
    "accounts.ApiKey": ("prefix", "key_hash", "scopes"),
    "accounts.RateWindow": ("key", "hits"),
    "accounts.LoginCode": ("email", "code_hash", "handle_hash", "network"),
    "accounts.Mail": ("recipient", "sealed_text", "lease_owner"),
    "accounts.AppDevice": ("key",),
    "vault.Secret": ("purpose", "owner", "field", "ciphertext", "origin"),
    "vault.KeyVersion": ("algorithm", "fingerprint", "check_value"),
    "tenants.ConfigRevision": ("action",),
    "tenants.Invitation": ("email", "role", "token_hash"),
    "tenants.JobResult": ("name",),
    "tenants.Node": ("runtime", "endpoint", "lease_owner"),
    "tenants.Plan": ("slug",),
    "tenants.Tenant": ("slug", "agent_kind", "handle", "fingerprint", "image", "config_hash"),
    "tenants.AgentConfig": ("provider_name",),
    "tenants.Channel": ("channel_type",),
    "tenants.TenantSecret": ("field",),
    "tenants.Member": ("role",),
    "tenants.AccessToken": ("prefix", "token_hash"),
    "tenants.Run": ("params", "lease_owner"),
    "tenants.StepRecord": ("name", "result"),
    "tenants.Event": ("type",),
    "monitoring.AlertRule": ("key", "metric"),
    "monitoring.Notifier": ("kind", "lease_owner"),
    "monitoring.Agreement": ("address",),
    "monitoring.RunTotals": ("sums",),
    "monitoring.Alert": (
        "unit",
        "which",
        "subject",
    ),
    "monitoring.Heartbeat": ("name",),
    "monitoring.Leader": ("name", "lease_owner"),
    "monitoring.Sweep": ("name", "lease_owner"),
    "monitoring.HealthState": ("restarts", "evidence"),
    "monitoring.ResourceCounter": ("life",),
    "monitoring.UsageCounter": ("life", "passed", "ahead"),
    "monitoring.QuotaMark": ("quota",),
}
NESTED: dict[str, Any] = {
    "snapshot": {
        "provider": "openai",
        "model": LONG,
        "base_url": LONG,
        "extra": {"x": LONG},
        "secrets": {},
        "channels": [],
    },
    "extra_config": {"x": LONG},
    "egress_hosts": [LONG],
    "config": {"allowed_users": [LONG], "to": [LONG], "url": LONG},
    "data": {"name": LONG},
    "message": {"rule": LONG},
}


def text_columns() -> dict[str, set[str]]:
    """Every column of ours that holds text or JSON without a fixed set of values, by model."""
    from django.apps import apps
    from django.db import models

    kinds = (models.CharField, models.TextField, models.JSONField)
    ours = ("audit", "accounts", "vault", "tenants", "monitoring", "backups")
    found = {
        model._meta.label: {f.name for f in model._meta.concrete_fields if isinstance(f, kinds) and not f.choices}
        for model in apps.get_models()
        if model._meta.app_label in ours
    }
    return {label: names for label, names in found.items() if names}


def poison() -> None:
    """Write the script into every free column of every row, and into the audit."""
    from django.apps import apps
    from django.db import transaction

    from audit.services import Target, record
    from tenants.models import Tenant
    from zcplatform.lib.actors import OPERATOR

    for label, names in FREE.items():
        model = apps.get_model(label)
        for row in model.objects.order_by("pk"):
            values = {name: value_for(model, name) for name in names}
            model.objects.filter(pk=row.pk).update(**values)
    for tenant in Tenant.objects.all():
        with transaction.atomic():
            about = {"name": LONG, "email": LONG}
            target = Target("tenant", str(tenant.public_id), LONG)
            record("tenant.update", actor=OPERATOR, target=target, tenant=str(tenant.public_id), detail=about)


def value_for(model: Any, name: str) -> Any:
    """The script as the column takes it."""
    if name in NESTED:
        return NESTED[name]
    longest = model._meta.get_field(name).max_length
    return LONG if longest is None or longest >= len(LONG) else SCRIPT[:longest]
