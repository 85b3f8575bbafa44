"""Canary secrets and forged lines, through a real logging configuration in a process of its own."""

import ast
import json
import subprocess
import sys
import textwrap

import pytest

from tests import architecture
from zcplatform.logs import OUR_PACKAGES

CANARY = "canary-5f3a9c81d2e7"

PREAMBLE = """
import logging, logging.config, sys
import structlog
from zcplatform.lib.redact import SecretStr, handle, handling, remember
from zcplatform.logs import logging_config
logging.config.dictConfig(logging_config(level="INFO", form=sys.argv[1]))
log, plain = structlog.get_logger("ours"), logging.getLogger("theirs")
module = logging.getLogger("tenants.door")
canary = "canary-" + "5f3a9c81d2e7"
"""


def logged(code, form="json"):
    done = subprocess.run(
        [sys.executable, "-c", PREAMBLE + textwrap.dedent(code), form], capture_output=True, text=True, check=True
    )
    assert done.stdout == ""
    return done.stderr


@pytest.mark.parametrize("form", ["json", "console"])
@pytest.mark.parametrize(
    "code",
    [
        "remember(canary); log.info('said ' + canary)",
        "remember(canary); plain.info('said %s', canary)",
        "log.info('x', bot_token=canary)",
        "log.info('x', apiKey=canary)",
        "log.info('x', config={'deep': [{'password': canary}]})",
        "log.info('x', value=SecretStr(canary))",
        "remember(canary); log.info('x', value=canary.encode())",
        "plain.info('GET /v1?token=%s&limit=3', canary)",
        "plain.info('Authorization: Bearer %s', canary)",
        "plain.info('opened /login/%s', canary + '0' * 20)",
        "plain.info('proxy http://user:%s@example.test/', canary)",
        'plain.info(\'{"api_key": "%s"}\', canary)',
        "plain.info('x', extra={'note': canary})",
        "plain.info('two %s', canary, 'too many')",  # can't be formatted: the arguments are not shown
    ],
)
def test_i11_a_secret_is_not_logged(code, form):
    output = logged(code, form)
    assert output.strip()
    assert CANARY not in output


@pytest.mark.parametrize("form", ["json", "console"])
@pytest.mark.parametrize("logger", ["log", "plain"])
def test_i11_tracebacks_show_neither_secrets_nor_locals(logger, form):
    output = logged(
        f"""
        remember(canary)
        def inner():
            local_variable = "local-value-" + str(7 * 6)
            raise ValueError("bad value " + canary)
        try:
            try:
                inner()
            except ValueError as error:
                raise RuntimeError("outer") from error
        except RuntimeError:
            {logger}.exception("failed")
        """,
        form,
    )
    assert "RuntimeError: outer" in output
    assert "ValueError: bad value ***" in output
    assert CANARY not in output
    assert "local-value-42" not in output


@pytest.mark.parametrize("form", ["json", "console"])
@pytest.mark.parametrize("logger", ["log", "plain"])
def test_j3_a_forged_line_stays_in_its_own(logger, form):
    forged = r"x\n2026-01-01 info forged\r\x1b[2Jcleared\u2028more\u202eesrever"
    lines = logged(f'{logger}.info("{forged}")', form).splitlines()
    assert len(lines) == 1
    assert lines[0].isprintable()
    assert "forged" in lines[0]


def test_j3_a_forged_line_in_an_exception_is_set_in():
    output = logged(
        """
        try:
            raise ValueError("x\\n2026-01-01 info forged")
        except ValueError:
            log.exception("failed")
        """,
        "console",
    )
    assert next(line for line in output.splitlines() if "forged" in line).startswith("    ")
    assert not [line for line in output.splitlines()[1:] if not line.startswith("    ")]


@pytest.mark.parametrize(
    "code",
    [
        "log.info('x' * 1_000_000)",
        "log.info('\\U0001F600' * 20_000)",
        "log.info('x', **{f'field{i}': 'y' * 500 for i in range(200)})",
        "log.info('x', data={'k': ['z' * 1000] * 1000})",
    ],
)
def test_a_line_is_cut_at_8_kb_and_stays_json(code):
    output = logged(code)
    assert len(output.encode()) <= 8 * 1024 + 1
    line = json.loads(output)
    assert line["truncated"] is True
    assert line["level"] == "info"


def test_a_long_traceback_keeps_its_end():
    output = logged(
        """
        def deep(n):
            if not n:
                raise ValueError("the very end")
            if n % 2:
                deep(n - 1)
            else:
                deep(
                    n - 1
                )
        try:
            deep(400)
        except ValueError:
            plain.exception("failed")
        """
    )
    assert len(output.encode()) <= 8 * 1024 + 1
    assert "the very end" in json.loads(output)["exception"]


def test_both_kinds_of_record_carry_the_bound_request_id():
    output = logged("structlog.contextvars.bind_contextvars(request_id='r-1'); log.info('a'); plain.info('b')")
    first, second = map(json.loads, output.splitlines())
    assert (first["request_id"], first["logger"], first["event"]) == ("r-1", "ours", "a")
    assert (second["request_id"], second["logger"], second["event"]) == ("r-1", "theirs", "b")
    assert first["timestamp"].endswith("Z")


def test_the_status_of_a_request_is_not_taken_for_a_login_code():
    assert json.loads(logged("log.info('request_finished', code=200)"))["status"] == 200
    assert json.loads(logged("log.info('sent', code='123456')"))["code"] == "***"


def test_the_level_is_kept():
    assert logged("log.debug('quiet'); plain.debug('quiet')") == ""


@pytest.mark.parametrize(
    "code",
    [
        "log.info('x', value='said ' + canary)",
        "log.warning('x', error='bad ' + canary)",
        "plain.info('said %s', canary)",
        "plain.warning('x', extra={'error': canary})",
        "module.warning('x', extra={'error': canary})",
        "module.warning('x', extra={'why': ['said ' + canary]})",
        "log.info('x', config={'deep': ['a ' + canary]})",
    ],
)
@pytest.mark.parametrize("form", ["json", "console"])
def test_i11_what_is_logged_in_the_course_of_work_has_no_secret_that_it_has_in_hand(code, form):
    assert CANARY not in logged(f"with handling():\n    handle(SecretStr(canary))\n    {code}", form)


def test_i11_a_traceback_in_the_course_of_work_has_no_secret_that_it_has_in_hand():
    output = logged(
        """
        with handling():
            handle(SecretStr(canary))
            try:
                raise ValueError("bad value " + canary)
            except ValueError:
                log.exception("failed")
                plain.exception("failed")
        """
    )
    assert output.count("ValueError: bad value ***") == 2
    assert CANARY not in output


def test_i11_a_secret_of_a_tenant_hides_nothing_of_others_and_not_by_whom_and_what_a_line_is():
    """Whoever calls an address, a slug or an event a secret would hide the own traces from the operator."""
    output = logged(
        """
        with handling():
            for word in ("/tenants/acme-corporation/config", "acme-corporation", "request_finished", "last words lost"):
                handle(SecretStr(word))
            log.info("request_finished", request="POST /tenants/acme-corporation/config", user_id="acme-corporation")
            module.warning("last words lost", extra={"tenant": "acme-corporation", "error": "acme-corporation"})
        log.info("x", note="acme-corporation")
        """
    )
    first, second, third = map(json.loads, output.splitlines())
    assert (first["event"], first["request"]) == ("request_finished", "POST /tenants/acme-corporation/config")
    assert first["user_id"] == second["tenant"] == third["note"] == "acme-corporation"
    assert (second["event"], second["error"]) == ("last words lost", "***")


def fields_given():
    """Every field that a module of ours gives beside a message, by what stands in the code."""
    found = set()
    for path in architecture.product_files():
        for node in ast.walk(ast.parse(path.read_text())):
            if not (isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute)):
                continue
            given = [
                word.value for word in node.keywords if word.arg == "extra" and ast.unparse(node.func.value) == "log"
            ]
            found |= {key.value for value in given if isinstance(value, ast.Dict) for key in value.keys}
    return found


@pytest.mark.parametrize("form", ["json", "console"])
def test_every_field_that_a_module_gives_arrives(form):
    given = {name: f"value-of-{name}" for name in fields_given()}
    assert {"tenant", "status", "ms", "lag_ms", "host", "port", "why", "check", "agents", "turn"} <= given.keys()
    output = logged(f"module.info('x', extra={given!r})", form)
    assert [value for value in given.values() if value not in output] == []


def test_a_field_that_nobody_thought_of_arrives_and_keeps_its_type():
    line = json.loads(logged("module.info('door', extra={'status': 503, 'ended': ['a', 'b'], 'brand_new': 1.5})"))
    assert (line["status"], line["ended"], line["brand_new"]) == (503, ["a", "b"], 1.5)


def test_what_a_library_attaches_stays_out():
    assert "whole request" not in logged("plain.info('x', extra={'request': 'a whole request', 'status_code': 200})")
    assert "whole request" not in logged("logging.getLogger('tenantsish').info('x', extra={'a': 'a whole request'})")


def test_the_loggers_of_every_package_count_as_ours():
    packages = {path.relative_to(architecture.ROOT).parts[0] for path in architecture.product_files()}
    assert packages - {"manage.py"} == OUR_PACKAGES
