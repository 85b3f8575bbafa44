from __future__ import annotations

import base64

import pytest
from hypothesis import given
from hypothesis import strategies as st
from nacl.bindings import crypto_aead_xchacha20poly1305_ietf_encrypt as primitive

from vault.cipher import KeyBytes, Place, decrypt, encrypt, version_of
from zcplatform.lib.errors import VaultError

KEY, OTHER_KEY = KeyBytes(b"k" * 32), KeyBytes(b"o" * 32)
PLACE = Place(purpose="provider", owner="tenant-a", field="api_key", id="s-1")


def seal(plaintext: bytes = b"value", version: int = 1, place: Place = PLACE) -> str:
    return encrypt(plaintext, key=KEY, version=version, place=place)


def refused(text: str, key: KeyBytes = KEY, place: Place = PLACE) -> str:
    with pytest.raises(VaultError) as error:
        decrypt(text, key=key, place=place)
    return error.value.type


@given(st.binary(max_size=300))
def test_what_goes_in_comes_out(plaintext):
    assert decrypt(seal(plaintext), key=KEY, place=PLACE) == plaintext


def test_the_wire_form_is_version_nonce_and_ciphertext_with_tag():
    version, nonce, sealed = seal(b"value", version=12).split(":")
    assert version == "v12" and version_of(seal(version=12)) == 12
    assert len(base64.b64decode(nonce)) == 24
    assert len(base64.b64decode(sealed)) == len(b"value") + 16


def test_the_algorithm_is_xchacha20poly1305_as_the_draft_has_it():
    """The test vector of draft-irtf-cfrg-xchacha-03, A.3.1, through the binding that is used."""
    text = (
        b"Ladies and Gentlemen of the class of '99: If I could offer you only one tip for the future, "
        b"sunscreen would be it."
    )
    key, nonce = bytes(range(0x80, 0xA0)), bytes(range(0x40, 0x58))
    sealed = primitive(text, bytes.fromhex("50515253c0c1c2c3c4c5c6c7"), nonce, key)
    assert sealed[-16:].hex() == "c0875924c1c7987947deafd8780acf49"


def test_i1_nonces_are_distinct():
    texts = {seal(b"same") for _ in range(10_000)}
    assert len({text.split(":")[1] for text in texts}) == len({text.split(":")[2] for text in texts}) == 10_000


@pytest.mark.parametrize("part", ["purpose", "owner", "field", "id"])
def test_i2_a_value_opens_only_in_its_place(part):
    other = Place(**{**PLACE.__dict__, part: "other"})
    assert refused(seal(), place=other) == "vault_tampered"


def test_i2_parts_of_the_place_can_not_be_shifted_into_each_other():
    text = seal(place=Place("a", "bc", "d", "e"))
    assert refused(text, place=Place("ab", "c", "d", "e")) == "vault_tampered"
    assert refused(text, place=Place("a", 'bc","x":"', "d", "e")) == "vault_tampered"


def test_i2_the_version_is_bound_too():
    assert refused(seal().replace("v1:", "v2:", 1)) == "vault_tampered"


def test_another_key_does_not_open_it():
    assert refused(seal(), key=OTHER_KEY) == "vault_tampered"


def test_i4_no_flipped_bit_opens():
    text = seal()
    for place in range(len(text)):
        for bit in range(8):
            flipped = text[:place] + chr(ord(text[place]) ^ (1 << bit)) + text[place + 1 :]
            assert refused(flipped) in ("vault_tampered", "vault_bad_format")


def test_i4_no_truncation_opens():
    text = seal()
    for length in range(len(text)):
        assert refused(text[:length]) in ("vault_tampered", "vault_bad_format")


@pytest.mark.parametrize(
    "text",
    [
        *("", ":", "::", "v1::", "v0:{n}:{c}", "v01:{n}:{c}", "v-1:{n}:{c}", "1:{n}:{c}", "V1:{n}:{c}"),
        *("v1:{n}:{c}:", "v1:{n}", "v٢:{n}:{c}", "v1\n:{n}:{c}", " v1:{n}:{c}", "v1:{n}:{c}\n", "v1:{c}:{n}"),
        *("v1:{n}:ü", "v9999999999:{n}:{c}"),
    ],
)
def test_i4_what_is_no_wire_form_is_refused(text):
    _, nonce, sealed = seal().split(":")
    assert refused(text.format(n=nonce, c=sealed)) in ("vault_bad_format", "vault_tampered")


def test_i4_the_unused_bits_of_base64_can_not_be_changed():
    text = seal(b"values")  # 22 bytes: the last letter before the padding carries four unused bits
    assert text.endswith("==")
    letters = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/"
    last = letters.index(text[-3])
    twin = text[:-3] + letters[last ^ 1] + "=="
    assert base64.b64decode(twin.split(":")[2]) == base64.b64decode(text.split(":")[2])
    assert refused(twin) == "vault_bad_format"


def test_a_key_does_not_print_itself():
    assert "kkkk" not in f"{KEY!r} {KEY} {[KEY]}"
