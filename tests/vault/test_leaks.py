"""I11: neither a secret nor a key shows in a repr, a log, an error, a traceback's frames or Django's debug page."""

from __future__ import annotations

import base64
import json
import logging
import secrets
import sys
import traceback

import pytest
from django.views.debug import ExceptionReporter

from audit.models import AuditEntry
from tests.audit.refusal import refusing
from vault import keyfile, keyring, services
from vault.models import KeyVersion, Secret
from zcplatform.lib.actors import OPERATOR
from zcplatform.lib.failpoints import armed
from zcplatform.lib.private_files import replace_private
from zcplatform.lib.redact import SecretStr


@pytest.fixture
def value() -> SecretStr:
    return SecretStr("canary-" + secrets.token_hex(12))


@pytest.fixture
def stored(vault, value) -> Secret:
    return put(value)


def put(value: SecretStr) -> Secret:
    return services.put(purpose="p", owner="o", field="f", value=value, actor=OPERATOR)


def read(stored: Secret) -> None:
    services.reveal(stored, actor=OPERATOR, why="test")


def shown_by(act, settings) -> str:
    """All that an error of ``act`` could show to a log, an error tracker or a browser."""
    try:
        act()
    except Exception:
        kind, error, trace = sys.exc_info()
        trace = trace.tb_next  # this frame belongs to the test
    else:
        pytest.fail("it did not fail")
    settings.DEBUG = True
    page = ExceptionReporter(None, kind, error, trace).get_traceback_html()
    frames, step = [], trace
    while step:
        frames.append(repr(step.tb_frame.f_locals))
        step = step.tb_next
    chain = traceback.TracebackException(kind, error, trace, capture_locals=True).format()
    return "\n".join([page, repr(error), repr(vars(error)), *frames, *chain])


def leaks(value: SecretStr) -> list[str]:
    """The value, and the keys in every form in which they might be printed."""
    keys = [bytes(key.secret) for key in keyring.load().keys]
    forms = [form for key in keys for form in (repr(key)[2:-1], key.hex(), base64.b64encode(key).decode())]
    return [value.reveal(), *forms]


def put_too_much(stored, value):
    put(SecretStr(value.reveal() * 9_999))


def put_no_text(stored, value):
    put(SecretStr(value.reveal() + "\ud800"))


def put_unaudited(stored, value):
    with refusing():
        put(value)


def read_unaudited(stored, value):
    with refusing():
        read(stored)


def read_tampered(stored, value):
    Secret.objects.update(owner="other")
    read(stored)


def put_with_a_foreign_key(stored, value):
    KeyVersion.objects.update(fingerprint="0" * 64, check_value="v1:x:y")
    put(value)


def rotate_with_a_foreign_key(stored, value):
    KeyVersion.objects.update(check_value="v1:x:y")
    services.rotate()


def rotate_and_fail(stored, value):
    with armed("vault.rotate.row=raise"):
        services.rotate()


@pytest.mark.parametrize(
    "act",
    [
        put_too_much,
        put_no_text,
        put_unaudited,
        read_unaudited,
        read_tampered,
        put_with_a_foreign_key,
        rotate_with_a_foreign_key,
        rotate_and_fail,
    ],
)
@pytest.mark.django_db(transaction=True)
def test_i11_errors_show_neither_value_nor_key(stored, value, settings, caplog, act):
    caplog.set_level(logging.DEBUG)
    shown = shown_by(lambda: act(stored, value), settings)
    assert len(shown) > 10_000
    for leak in leaks(value):
        assert leak not in shown
        assert leak not in caplog.text


@pytest.mark.parametrize("damage", ["short", "cut", "no version", "passphrase"])
def test_i11_errors_of_the_key_file_do_not_show_it(stored, vault, value, settings, damage):
    forbidden = leaks(value)
    data = json.loads(vault.read_bytes())
    if damage == "short":
        data["keys"].append({**data["keys"][0], "version": 2, "key": "AAAA"})
    elif damage == "no version":
        data["keys"][0]["version"] = "x"
    content = json.dumps(data).encode()
    if damage == "passphrase":
        content = keyfile.dump(keyring.load(), "correct horse battery staple")
        settings.VAULT_PASSPHRASE = "another-passphrase"
        forbidden.append("another-passphrase")
    replace_private(vault, content[:-2] if damage == "cut" else content)
    del data, content
    shown = shown_by(keyring.load, settings)
    for leak in forbidden:
        assert leak not in shown


def test_i11_nothing_prints_itself(stored, value):
    ring = keyring.load()
    text = f"{value} {value!r} {ring!r} {ring.newest!r} {stored!r} {vars(stored)} {KeyVersion.objects.values()}"
    assert not any(leak in text for leak in leaks(value))


def test_i11_the_audit_holds_no_value_and_no_key(stored, value):
    read(stored)
    services.replace(stored, SecretStr(value.reveal() + "!"), actor=OPERATOR)
    services.rotate()
    services.delete([stored])
    text = "".join(str(row) for row in AuditEntry.objects.values())
    assert not any(leak in text for leak in leaks(value))
