"""The tables of time series: their key, their layout, and what a row is worth that comes twice."""

from __future__ import annotations

import pytest
from django.db import connection

from monitoring.models import ResourceHour, ResourceSnapshot
from tenants.records import UsageHour

pytestmark = pytest.mark.django_db


@pytest.mark.parametrize("model", [ResourceSnapshot, ResourceHour, UsageHour])
def test_sqlite_keeps_a_series_in_the_order_of_its_key(model):
    if connection.vendor != "sqlite":
        pytest.skip("SQLite's own")
    with connection.cursor() as cursor:
        cursor.execute("SELECT sql FROM sqlite_master WHERE name = %s", [model._meta.db_table])
        assert "WITHOUT ROWID" in cursor.fetchone()[0]
        cursor.execute("SELECT count(*) FROM sqlite_master WHERE tbl_name = %s", [model._meta.db_table])
        assert cursor.fetchone()[0] == 1, "a second index would cost what the layout saves"


def test_sqlite_takes_no_series_for_damaged(tenant):
    """SQLite 3.40 (Debian 12) finds columns NULL that are not where a key's columns are not the table's first: serve
    would not start again, and no backup could be restored."""
    if connection.vendor != "sqlite":
        pytest.skip("SQLite's own")
    ResourceSnapshot.objects.create(tenant=tenant, ts=60)
    ResourceHour.objects.create(tenant=tenant, ts=0, samples=1)
    UsageHour.objects.create(tenant=tenant, period_start=0)
    with connection.cursor() as cursor:
        for check in ("PRAGMA quick_check", "PRAGMA integrity_check"):
            cursor.execute(check)
            assert cursor.fetchall() == [("ok",)]


@pytest.mark.parametrize("model", [ResourceSnapshot, ResourceHour, UsageHour])
def test_the_columns_of_a_series_key_come_first(model):
    """Whatever SQLite the tests run on."""
    with connection.cursor() as cursor:
        columns = [
            column.name for column in connection.introspection.get_table_description(cursor, model._meta.db_table)
        ]
    key = [field.column for field in model._meta.pk_fields]
    assert columns[: len(key)] == key


def test_a_table_after_a_clustered_one_is_an_ordinary_one():
    if connection.vendor != "sqlite":
        pytest.skip("SQLite's own")
    with connection.cursor() as cursor:
        cursor.execute("SELECT sql FROM sqlite_master WHERE name = 'quota_marks'")
        assert "WITHOUT ROWID" not in cursor.fetchone()[0]


def test_a_sample_that_comes_twice_is_one_row(tenant):
    rows = [ResourceSnapshot(tenant=tenant, ts=60, mem_bytes=number) for number in (1, 2)]
    for row in rows:
        ResourceSnapshot.objects.bulk_create([row], ignore_conflicts=True)
    assert list(ResourceSnapshot.objects.values_list("ts", "mem_bytes", "cpu_mpct")) == [(60, 1, None)]
