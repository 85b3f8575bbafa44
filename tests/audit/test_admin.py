from __future__ import annotations

import pytest
from django.db import transaction
from django.urls import reverse

from accounts.models import User
from audit.models import AuditEntry
from audit.services import Target, record
from zcplatform.lib.actors import OPERATOR


@pytest.fixture
def entry(db):
    with transaction.atomic():
        return record("tenant.create", actor=OPERATOR, target=Target("tenant", "1", "<script>x</script>"))


@pytest.fixture
def boss(client, db):
    client.force_login(User.objects.create_superuser("boss@example.org"))
    return client


def test_a_superuser_reads_the_audit_escaped(boss, entry):
    page = boss.get(reverse("admin:audit_auditentry_changelist")).content.decode()
    assert "tenant.create" in page
    assert "<script>x</script>" not in page
    assert boss.get(reverse("admin:audit_auditentry_change", args=[entry.pk])).status_code == 200


def test_j1_the_admin_adds_changes_and_deletes_nothing(boss, entry):
    change = reverse("admin:audit_auditentry_change", args=[entry.pk])
    assert boss.post(change, {"action": "x"}).status_code == 403
    assert boss.post(reverse("admin:audit_auditentry_delete", args=[entry.pk]), {"post": "yes"}).status_code == 403
    assert boss.post(reverse("admin:audit_auditentry_add"), {"action": "x"}).status_code == 403
    data = {"action": "delete_selected", "_selected_action": [entry.pk], "post": "yes"}
    boss.post(reverse("admin:audit_auditentry_changelist"), data)
    assert AuditEntry.objects.get().action == "tenant.create"
