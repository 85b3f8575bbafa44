from __future__ import annotations

import json

import pytest
from django.db import DatabaseError, transaction

from audit.models import AuditEntry
from audit.services import verify_chain
from tests.audit.refusal import refusing
from vault import services
from vault.models import Secret
from zcplatform.lib.actors import OPERATOR, Actor
from zcplatform.lib.errors import InvalidField, VaultError
from zcplatform.lib.redact import SecretStr

ANA = Actor(label="ana@example.org", user_id=7, public_id="u-7", email="ana@example.org")


def refused(act) -> str:
    with pytest.raises(VaultError) as error:
        act()
    return error.value.type


def rows(action: str) -> list[AuditEntry]:
    return list(AuditEntry.objects.filter(action=action))


def test_a_value_is_stored_as_ciphertext_and_comes_back(vault, put, read):
    secret = put("sk-0123456789abcdef")
    secret.refresh_from_db()
    assert "0123456789" not in json.dumps(Secret.objects.values().get(), default=str)
    assert secret.ciphertext.startswith("v1:") and secret.key_version == 1
    assert read(secret) == "sk-0123456789abcdef"


@pytest.mark.parametrize(("value", "hint"), [("x" * 12 + "9abc", "9abc"), ("x" * 15, ""), ("short", "")])
def test_only_a_long_value_has_a_hint(vault, put, value, hint):
    assert put(value).hint == hint


@pytest.mark.parametrize("value", ["ü€😀", "a\nb\x00c", "x" * 65_536])
def test_any_text_may_be_a_secret(vault, put, read, value):
    assert read(put(value)) == value


@pytest.mark.parametrize("value", ["", "x" * 65_537, "lone \ud800 surrogate"])
def test_no_text_too_much_text_and_no_unicode_are_refused(vault, value):
    with pytest.raises(InvalidField) as error:
        services.put(purpose="p", owner="o", field="f", value=SecretStr(value), actor=ANA)
    assert error.value.type == "invalid_secret" and error.value.details["field"] == "f"
    assert not Secret.objects.exists()


def test_every_act_is_audited_under_its_owner_and_without_the_value(vault, put, read):
    secret = put()
    services.replace(secret, SecretStr("sk-another-0123456789"), actor=ANA)
    assert read(secret) == "sk-another-0123456789" and secret.hint == "6789"
    services.delete([secret], actor=ANA)
    found = {entry.action: entry for entry in AuditEntry.objects.filter(resource_type="secret")}
    assert set(found) == {"secret.write", "secret.rotate", "secret.read", "secret.delete"}
    for entry in found.values():
        assert (entry.tenant_id, entry.resource_id) == ("tenant-a", str(secret.public_id))
        assert entry.resource_name == "provider/api_key"
        assert "0123456789" not in entry.detail_json
    assert json.loads(found["secret.read"].detail_json)["why"] == "test"


def test_many_are_read_with_one_row(vault, put):
    secrets = [put(f"value-number-{n:06}", field=f"f{n}") for n in range(3)]
    values = services.reveal_many(secrets, actor=ANA, why="render config")
    assert {pk: value.reveal() for pk, value in values.items()} == {
        secret.pk: f"value-number-{n:06}" for n, secret in enumerate(secrets)
    }
    (entry,) = rows("secret.read")
    detail = json.loads(entry.detail_json)
    assert detail["why"] == "render config" and len(detail["opened"]) == 3
    assert str(secrets[0].public_id) in detail["opened"][0]
    assert services.reveal_many([], actor=ANA, why="nothing") == {}


def test_deleting_twice_is_harmless(vault, put):
    secret = put()
    assert services.delete([secret]) == 1
    assert services.delete([Secret(pk=secret.pk or 1)]) == 0
    assert len(rows("secret.delete")) == 1


def test_a_secret_that_is_gone_can_neither_be_read_nor_replaced(vault, put, read):
    secret, copy = put(), Secret.objects.get()
    services.delete([secret])
    assert refused(lambda: read(copy)) == "vault_secret_missing"
    assert refused(lambda: services.replace(copy, SecretStr("x"), actor=ANA)) == "vault_secret_missing"


def test_a_stale_copy_of_a_row_reads_the_present_value(vault, put, read):
    secret, copy = put(), Secret.objects.get()
    services.replace(secret, SecretStr("the present value"), actor=ANA)
    services.rotate()
    services.remove_key(1)
    assert read(copy) == "the present value"


def test_i2_a_ciphertext_copied_to_another_row_does_not_open(vault, put, read):
    victim, thief = put(owner="tenant-a"), put("mine-0123456789abc", owner="tenant-b")
    Secret.objects.filter(pk=thief.pk).update(ciphertext=Secret.objects.get(pk=victim.pk).ciphertext)
    assert refused(lambda: read(thief)) == "vault_tampered"


@pytest.mark.parametrize("column", ["purpose", "owner", "field"])
def test_i2_a_row_given_to_somebody_else_does_not_open(vault, put, read, column):
    secret = put()
    Secret.objects.update(**{column: "other"})
    assert refused(lambda: read(secret)) == "vault_tampered"


def test_i2_a_version_column_that_contradicts_the_ciphertext_is_refused(vault, put, read):
    secret = put()
    Secret.objects.update(key_version=2)
    assert refused(lambda: read(secret)) == "vault_tampered"


def test_i3_an_older_ciphertext_that_is_put_back_opens_only_under_its_own_version(vault, put, read):
    """A row rolled back whole looks intact, as SECURITY.md says; one whose version has moved on does not open."""
    secret = put()
    old = Secret.objects.get(pk=secret.pk).ciphertext
    services.replace(secret, SecretStr("sk-the-next-value"), actor=OPERATOR)
    Secret.objects.filter(pk=secret.pk).update(ciphertext=old)
    assert read(secret) == "sk-0123456789abcdef"
    services.rotate()
    Secret.objects.filter(pk=secret.pk).update(ciphertext=old)
    assert refused(lambda: read(secret)) == "vault_tampered"


@pytest.mark.parametrize("text", ["", "plain text", "v1:AAAA:AAAA", "v2:{rest}"])
@pytest.mark.django_db(transaction=True)
def test_i4_a_damaged_value_is_an_audited_fault_and_never_a_value(vault, put, read, text):
    good, bad = put(), put()
    rest = bad.ciphertext.split(":", 1)[1]
    Secret.objects.filter(pk=bad.pk).update(ciphertext=text.format(rest=rest))
    type = refused(lambda: services.reveal_many([good, bad], actor=ANA, why="test"))
    assert type in ("vault_tampered", "vault_bad_format", "vault_key_unknown")
    (entry,) = rows("secret.read")
    assert entry.outcome == "failed"
    assert VaultError.status == 500
    assert read(good) == "sk-0123456789abcdef"


@pytest.mark.django_db(transaction=True)
def test_i12_without_an_audit_row_there_is_no_value(vault, put):
    secret = put()
    with refusing(), pytest.raises(DatabaseError):
        services.reveal(secret, actor=ANA, why="test")
    with refusing(), pytest.raises(DatabaseError), transaction.atomic():
        services.reveal(secret, actor=ANA, why="test")
    assert not rows("secret.read")


@pytest.mark.django_db(transaction=True)
def test_i12_the_row_is_committed_before_the_value_is_returned(vault, put):
    secret = put()
    services.reveal(secret, actor=ANA, why="test")
    assert not transaction.get_connection().in_atomic_block
    assert len(rows("secret.read")) == 1


@pytest.mark.django_db(transaction=True)
def test_i12_inside_a_callers_transaction_the_row_shares_its_fate(vault, put):
    secret = put()
    with transaction.atomic():
        assert services.reveal(secret, actor=ANA, why="kept").reveal()
    with pytest.raises(RuntimeError), transaction.atomic():
        services.reveal(secret, actor=ANA, why="undone")
        raise RuntimeError
    assert [json.loads(entry.detail_json)["why"] for entry in rows("secret.read")] == ["kept"]
    assert verify_chain().fault is None


@pytest.mark.django_db(transaction=True)
def test_a_write_whose_audit_fails_is_undone(vault, put, read):
    secret = put()
    for act in (
        put,
        lambda: services.replace(secret, SecretStr("other"), actor=OPERATOR),
        lambda: services.delete([secret]),
    ):
        with refusing(), pytest.raises(DatabaseError):
            act()
    assert Secret.objects.count() == 1
    assert read(Secret.objects.get()) == "sk-0123456789abcdef"
