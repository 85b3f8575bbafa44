"""The audit trail: rows that are added and never changed, each bound to the one before it."""

from __future__ import annotations

from django.db import models


class AuditEntry(models.Model):
    """One act, or one refused attempt. Actor and target are kept as text: a row outlives what it names.

    ``hash`` covers ``previous_hash`` and every other column but ``id`` (ids are consecutive, so they follow from the
    position), ``detail_json`` as the exact text that is stored.
    The database refuses UPDATE and DELETE by trigger.
    """

    created_at = models.DateTimeField()
    actor_id = models.CharField(max_length=64, blank=True)
    actor_email = models.CharField(max_length=254, blank=True)
    action = models.CharField(max_length=64)
    outcome = models.CharField(max_length=16)
    resource_type = models.CharField(max_length=40, blank=True)
    resource_id = models.CharField(max_length=64, blank=True)
    resource_name = models.CharField(max_length=200, blank=True)
    tenant_id = models.CharField(max_length=64, blank=True)
    ip_address = models.CharField(max_length=45, blank=True)
    request_id = models.CharField(max_length=64, blank=True)
    detail_json = models.TextField(default="{}")
    previous_hash = models.CharField(max_length=64)
    hash = models.CharField(max_length=64, unique=True)

    class Meta:
        db_table = "audit_log"
        indexes = [
            models.Index(fields=["tenant_id", "-id"], name="audit_tenant"),
            models.Index(fields=["resource_type", "resource_id", "-id"], name="audit_resource"),
            models.Index(fields=["action", "-id"], name="audit_action"),
        ]
        verbose_name_plural = "audit entries"

    def __str__(self) -> str:
        return f"#{self.pk} {self.action}"


class Checkpoint(models.Model):
    """Rows ``first_id`` to ``last_id`` lie in an export; the chain goes on after ``last_hash``. Append-only by trigger,
    and vouched for by a row of the chain itself, whose detail says the same."""

    created_at = models.DateTimeField()
    first_id = models.BigIntegerField()
    last_id = models.BigIntegerField(unique=True)
    previous_hash = models.CharField(max_length=64)
    last_hash = models.CharField(max_length=64)
    file_name = models.CharField(max_length=200)
    sha256 = models.CharField(max_length=64)
    public_key = models.CharField(max_length=64)
    signature = models.CharField(max_length=128)

    class Meta:
        db_table = "audit_checkpoints"

    def __str__(self) -> str:
        return f"{self.first_id}-{self.last_id}"
