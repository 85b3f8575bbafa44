"""Pairing codes: shown without a change, good once, over after ten minutes; and the door that takes them."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from audit.models import AuditEntry
from tenants import access_tokens, pairing, tokens
from tenants.models import AccessToken, Tenant
from tenants.states import Desired
from tests.factories import MemberFactory, TenantFactory
from tests.tenants.test_membership import at_once
from zcplatform.lib import clock
from zcplatform.lib.actors import OPERATOR, Actor
from zcplatform.lib.errors import Conflict, Forbidden, NotFound, Unauthenticated

DEVICE = Actor(label="pairing code", ip="192.0.2.1")
NOON = datetime(2026, 1, 31, 12, tzinfo=UTC)


def code_of(tenant):
    return pairing.current(actor=OPERATOR, tenant=Tenant.objects.get(pk=tenant.pk)).code.reveal()


def exchange(tenant, code, name=""):
    return pairing.exchange(tenant=tenant, code=code, name=name, actor=DEVICE)


def refused(tenant, code):
    with pytest.raises(Unauthenticated) as error:
        exchange(tenant, code)
    return error.value.type == "invalid_pairing_code"


def test_k9_looking_at_the_code_changes_nothing_and_says_the_same(tenant):
    with clock.use(lambda: NOON):
        before = Tenant.objects.filter(pk=tenant.pk).values().get()
        assert code_of(tenant) == code_of(tenant)
        assert Tenant.objects.filter(pk=tenant.pk).values().get() == before
    assert not AuditEntry.objects.exists()


def test_a_code_is_good_once(tenant):
    code = code_of(tenant)
    token, value = exchange(tenant, code, "phone")
    assert (token.name, token.paired, tokens.lookup(value.reveal())) == ("phone", True, token)
    assert refused(tenant, code)
    assert code_of(tenant) != code
    assert exchange(tenant, code_of(tenant))[0].name == "paired device"
    outcomes = AuditEntry.objects.filter(action="pairing.use").order_by("id").values_list("outcome", flat=True)
    assert list(outcomes) == ["ok", "denied", "ok"]


@pytest.mark.parametrize(("later", "good"), [(0, True), (299, True), (599, True), (600, False), (86_400, False)])
def test_a_code_lives_ten_minutes_from_the_beginning_of_its_window(tenant, later, good):
    with clock.use(lambda: NOON):
        shown = pairing.current(actor=OPERATOR, tenant=tenant)
    assert shown.expires_at == NOON + timedelta(minutes=10)
    with clock.use(lambda: NOON + timedelta(seconds=later)):
        assert exchange(tenant, shown.code.reveal()) if good else refused(tenant, shown.code.reveal())


def test_whoever_reads_a_code_has_five_minutes_at_least(tenant):
    with clock.use(lambda: NOON + timedelta(seconds=299)):
        shown = pairing.current(actor=OPERATOR, tenant=tenant)
        assert shown.expires_at - clock.now() > timedelta(minutes=5)


def test_how_it_is_typed_does_not_matter_but_what_is_typed_does(tenant):
    code = code_of(tenant)
    for wrong in ("", "AAAA-AAAA", code[:-1], code + "A", "ÄÄÄÄ-ÄÄÄÄ"):
        assert refused(tenant, wrong)
    assert exchange(tenant, f" {code.lower().replace('-', '')} ")


def test_a_code_of_another_tenant_is_none(tenant):
    assert refused(TenantFactory(), code_of(tenant))


@pytest.mark.django_db(transaction=True)
def test_of_many_at_once_one_gets_a_token(tenant):
    code = code_of(tenant)
    raised = at_once(*[lambda: exchange(tenant, code)] * 8)
    assert len(raised) == 7 and all(isinstance(error, Unauthenticated) for error in raised)
    assert AccessToken.objects.filter(tenant=tenant).count() == 1


def test_a_reset_ends_what_was_paired_and_nothing_else(tenant):
    kept, _ = access_tokens.issue(actor=OPERATOR, tenant=tenant, name="kept")
    value = exchange(tenant, code_of(tenant))[1]
    before = code_of(tenant)
    after = pairing.reset(actor=OPERATOR, tenant=tenant).code.reveal()
    assert after not in ("", before) and after == code_of(tenant)
    assert refused(tenant, before)
    assert tokens.lookup(value.reveal()) is None
    kept.refresh_from_db()
    assert kept.revoked_at is None


def test_a_full_tenant_keeps_the_code_good(tenant, monkeypatch):
    monkeypatch.setattr(access_tokens, "MAX_LIVE", 0)
    code = code_of(tenant)
    with pytest.raises(Forbidden):
        exchange(tenant, code)
    monkeypatch.setattr(access_tokens, "MAX_LIVE", 1)
    assert exchange(tenant, code)


def test_who_may_see_and_reset_it(tenant, colleague, stranger):
    for act in (pairing.current, pairing.reset):
        with pytest.raises(Forbidden):
            act(actor=colleague.as_actor(), tenant=tenant)
        with pytest.raises(NotFound):
            act(actor=stranger.as_actor(), tenant=tenant)
        assert act(actor=MemberFactory(tenant=tenant, role="manager").user.as_actor(), tenant=tenant)


def test_a_deleted_tenant_pairs_no_more(tenant):
    code = code_of(tenant)
    Tenant.objects.filter(pk=tenant.pk).update(desired=Desired.DELETED)
    with pytest.raises(NotFound):
        exchange(tenant, code)
    tenant.refresh_from_db()
    for act in (pairing.current, pairing.reset):
        with pytest.raises(Conflict):
            act(actor=OPERATOR, tenant=tenant)
