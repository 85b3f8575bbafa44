"""The list of columns that the browser's test fills with scripts is whole."""

from __future__ import annotations

from tests.browser import cast, poison


def test_every_text_column_is_either_free_or_the_platform_s_own():
    listed = {
        label: {*poison.FREE.get(label, ()), *poison.OURS.get(label, ())} for label in {*poison.FREE, *poison.OURS}
    }
    assert {label: names ^ listed.get(label, set()) for label, names in poison.text_columns().items()} == {
        label: set() for label in poison.text_columns()
    }
    assert not [(a, b) for a, b in poison.FREE.items() if {*b} & {*poison.OURS.get(a, ())}]


def test_the_script_fits_and_stays_hostile(db):
    from django.apps import apps

    for label, names in poison.FREE.items():
        for name in names:
            value = str(poison.value_for(apps.get_model(label), name))
            assert "<img" in value or name == "hint", (label, name)


def test_poisoned_rows_are_rows(stage):
    poison.poison()
    assert stage.tenant.members.count() > 0
    stage.tenant.refresh_from_db()
    assert "onerror=pwned" in stage.tenant.name
    assert len(cast.admin_pages()) > 30
