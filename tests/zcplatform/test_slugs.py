"""Slugs become host names and container names: what may be one, and what is made of a name."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from zcplatform.lib.errors import InvalidField
from zcplatform.lib.slugs import MAX_LENGTH, RESERVED, check_slug, slug_from_name, with_suffix


def refused(slug):
    with pytest.raises(InvalidField) as error:
        check_slug(slug)
    return error.value.type


@pytest.mark.parametrize("slug", ["acme", "a1b", "acme-corp", "0day", "a" * 30])
def test_a_slug_is_itself(slug):
    assert check_slug(slug) == slug


@pytest.mark.parametrize("slug", ["acme\n", "\nacme", "ac\nme", "acme\r\n", "acme\x00", " acme", "acme "])
def test_d1_a_newline_or_a_space_is_refused_wherever_it_stands(slug):
    assert refused(slug) == "invalid_slug"


@pytest.mark.parametrize(
    "slug", ["*", "a.b", "acme.evil.com", "127.0.0.1", "a/b", "a%2e", "..", "acme:80", "acme@evil", "{host}", "a_b"]
)
def test_d2_what_would_be_more_than_one_label_is_refused(slug):
    assert refused(slug) == "invalid_slug"


@pytest.mark.parametrize("slug", ["api", "www", "admin", "mail", "localhost", "acme-challenge"])
def test_d4_reserved_names_are_refused_as_such(slug):
    assert refused(slug) == "reserved_slug"


@pytest.mark.parametrize(
    "slug",
    ["_acme-challenge", "xn--bcher-kva", "--", "-acme", "acme-", "ac--me", "ab", "a" * 31, "Acme", "acmé", "ａcme"],
)
def test_d4_labels_with_a_meaning_of_their_own_and_odd_forms_are_refused(slug):
    assert refused(slug) == "invalid_slug"


def test_every_reserved_name_would_otherwise_be_a_slug_or_too_short():
    assert all(re.fullmatch(r"[a-z0-9]([a-z0-9-]*[a-z0-9])?", name) for name in RESERVED)


@given(st.text(max_size=200))
def test_what_is_made_of_any_name_is_a_slug_or_a_reserved_word(name):
    slug = slug_from_name(name)
    assert slug in RESERVED or check_slug(slug) == slug
    for number in (2, 99):
        assert check_slug(with_suffix(slug, number)) == with_suffix(slug, number)
        assert len(with_suffix(slug, number)) <= MAX_LENGTH
