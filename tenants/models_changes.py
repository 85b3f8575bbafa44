"""What was before, and what was offered: revisions of a configuration, invitations. Facts about one row only."""

from __future__ import annotations

import uuid

from django.conf import settings
from django.db import models
from django.db.models import Q

from zcplatform.lib import clock


class ConfigRevision(models.Model):
    """A tenant's configuration after one change. ``number`` counts from 1 per tenant.

    ``snapshot`` names the secrets by their public ids in the vault; their values stand nowhere here.
    """

    tenant = models.ForeignKey("tenants.Tenant", on_delete=models.CASCADE, related_name="revisions")
    number = models.PositiveIntegerField()
    action = models.CharField(max_length=64)
    actor = models.CharField(max_length=254)
    snapshot = models.JSONField()
    created_at = models.DateTimeField(default=clock.now)

    class Meta:
        db_table = "config_revisions"
        constraints = [models.UniqueConstraint(fields=["tenant", "number"], name="revision_once")]

    def __str__(self) -> str:
        return f"revision {self.number}"


class Invitation(models.Model):
    """An offer of a role in a tenant to an e-mail address. The token is in the mail alone; here is its SHA-256."""

    public_id = models.UUIDField(default=uuid.uuid4, unique=True, editable=False)
    tenant = models.ForeignKey("tenants.Tenant", on_delete=models.CASCADE, related_name="invitations")
    email = models.EmailField()
    role = models.CharField(max_length=40)
    token_hash = models.CharField(max_length=64, unique=True)
    # None: an operator at the command line. Nobody's offers outlive their account.
    invited_by = models.ForeignKey(
        settings.AUTH_USER_MODEL, on_delete=models.CASCADE, null=True, blank=True, related_name="+"
    )
    created_at = models.DateTimeField(default=clock.now)
    expires_at = models.DateTimeField()
    accepted_at = models.DateTimeField(null=True, blank=True)
    revoked_at = models.DateTimeField(null=True, blank=True)

    class Meta:
        db_table = "invitations"
        constraints = [
            models.UniqueConstraint(
                fields=["tenant", "email"],
                condition=Q(accepted_at__isnull=True, revoked_at__isnull=True),
                name="invitation_open_once",
            )
        ]

    def __str__(self) -> str:
        return self.email
