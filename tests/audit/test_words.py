"""What people read of a row: names and plain words, never an id or a machine's way to write something."""

from __future__ import annotations

import json

import pytest
from django.utils import translation

from audit import words
from audit.models import AuditEntry

ID = "c59a196e-5894-4b2e-bb97-6d33d14ca7bb"


@pytest.mark.parametrize(
    ("detail", "told"),
    [
        ({"kind": "provision", "run": ID}, "kind: provision"),
        ({"plan": "pro", "token_id": "***"}, "plan: pro"),
        ({"channel": ID.replace("-", "")}, ""),
        ({"until": "2026-11-26T15:54:42.965945+00:00"}, "until: 2026-11-26 15:54 UTC"),
        ({"comparison": "ge", "hold_s": 300, "threshold": 90.0}, "comparison: ≥, hold: 300 s, threshold: 90"),
        ({"is_superuser": False, "opened": [ID], "note": ""}, "is superuser: no"),
        ({"argv": ["ls", "-l", "/data"], "metric": "tenant_disk_pct"}, "argv: ls -l /data, metric: tenant disk %"),
        ({"argv": ["sh", "-c", f"rm my_file # {ID}"]}, f"argv: sh -c 'rm my_file # {ID}'"),
        ({"argv": ["gt", "***"], "name": "prod_alerts"}, "argv: gt '***', name: prod_alerts"),
        ({"opened": [f"{ID} tenant/agent_token"], "changed": []}, ""),
        ({"note": "x" * 500}, "note: " + "x" * 194),
    ],
)
def test_a_detail_is_told_without_ids_masks_and_machine_forms(detail, told):
    assert words.detail(AuditEntry(detail_json=json.dumps(detail))) == told


def test_what_a_program_reads_is_told_by_its_label_in_the_reader_s_language():
    entry = AuditEntry(detail_json=json.dumps({"kind": "restart", "reason": "", "ok": True}))
    names = {"kind": {"restart": "Restart"}, "reason": {"": "—"}}
    assert words.detail(entry, names) == "kind: Restart, ok: yes"
    with translation.override("pt-br"):
        assert words.detail(entry, names) == "tipo: Reiniciar, ok: sim"


@pytest.mark.parametrize(
    ("kind", "name", "told"),
    [
        ("alert_rule", "Memory is short", "Memory is short"),
        ("secret", "tenant/agent_token", "agent token"),
        ("secret", f"channel:{ID.replace('-', '')}/bot_token", "channel bot token"),
        ("user", "a_b@example.test", "a_b@example.test"),
        ("run", ID, ""),
    ],
)
def test_a_subject_is_a_name(kind, name, told):
    assert words.subject(AuditEntry(resource_type=kind, resource_name=name)) == told


@pytest.mark.parametrize(
    ("email", "actor", "told"),
    [("dana@example.test", ID, "dana@example.test"), ("", "operator", "operator"), ("", "system", "the platform")],
)
def test_an_operator_at_the_shell_is_not_the_platform(email, actor, told):
    assert words.who(AuditEntry(actor_email=email, actor_id=actor)) == told
