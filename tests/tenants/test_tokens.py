"""Access tokens: made, found, refused, revoked."""

import hashlib
import re
from datetime import timedelta

import pytest

from tenants import tokens
from tenants.models import AccessToken
from tenants.states import Status
from tests.factories import TenantFactory
from zcplatform.lib import clock
from zcplatform.lib.redact import scrub


@pytest.fixture
def minted(tenant):
    return tokens.mint(tenant, "first", created_by="someone@example.test")


def test_a_token_has_256_random_bits_and_is_stored_as_its_hash(minted):
    token, value = minted
    assert re.fullmatch(r"zct_[A-Za-z0-9_-]{43}", value.reveal())
    assert token.token_hash == hashlib.sha256(value.reveal().encode()).hexdigest()
    assert value.reveal().startswith(token.prefix)
    assert value.reveal() not in repr(AccessToken.objects.values().get())


def test_a_token_is_a_secret_to_every_log(minted):
    assert minted[1].reveal() not in scrub(f"Authorization: Bearer {minted[1].reveal()}")


def test_it_is_found_by_its_value_in_one_query(minted, django_assert_num_queries):
    with django_assert_num_queries(1):
        found = tokens.lookup(minted[1].reveal())
        assert found.tenant.node.address == "127.0.0.1"
    assert found == minted[0]


def test_b7_b11_neither_the_hash_nor_a_part_of_the_value_finds_it(minted):
    token, value = minted
    for other in (
        token.token_hash,
        token.prefix,
        value.reveal()[:-1],
        value.reveal() + "x",
        value.reveal().upper(),
        "",
    ):
        assert tokens.lookup(other) is None


@pytest.mark.parametrize("value", ["'", "' OR 1=1 --", "zct_" + "\0" * 43, "\ud800", "é" * 100])
def test_l19_whatever_is_sent_is_only_hashed(minted, value):
    assert tokens.lookup(value) is None


def test_a_revoked_token_is_not_found(minted, tenant):
    other, _ = tokens.mint(TenantFactory(), "other", created_by="")
    assert tokens.revoke_all(tenant) == 1
    assert tokens.revoke_all(tenant) == 0
    assert tokens.lookup(minted[1].reveal()) is None
    other.refresh_from_db()
    assert other.revoked_at is None


def test_an_expired_token_is_not_found(tenant):
    end = clock.now() + timedelta(hours=1)
    _, value = tokens.mint(tenant, "short", created_by="", expires_at=end)
    with clock.use(lambda: end - timedelta(seconds=1)):
        assert tokens.lookup(value.reveal())
    with clock.use(lambda: end):
        assert tokens.lookup(value.reveal()) is None


def test_l16_the_token_of_a_deleted_tenant_is_not_found(minted, tenant):
    tenant.status = Status.DELETED
    tenant.save()
    assert tokens.lookup(minted[1].reveal()) is None


def test_its_use_is_written_at_most_once_a_minute(minted, django_assert_num_queries):
    token = minted[0]
    start = clock.now()
    with clock.use(lambda: start):
        tokens.touch(token)
    token.refresh_from_db()
    assert token.last_used_at == start
    with clock.use(lambda: start + timedelta(seconds=59)), django_assert_num_queries(0):
        tokens.touch(token)
    with clock.use(lambda: start + timedelta(seconds=61)):
        tokens.touch(token)
    token.refresh_from_db()
    assert token.last_used_at == start + timedelta(seconds=61)
