"""The rules of the house, held by tests. Each rule is also fed a planted violation: a rule that can't fail is none."""

import re

import pytest
from django.core.management import call_command

from tests import architecture as rules
from zcplatform import __version__

# Where a rule is broken on purpose: path -> why.
UNSAFE_TEXT_ALLOWED = {"zcplatform/lib/sqlite3/base.py": "a PRAGMA takes no parameters; this one is given an integer"}
FOREIGN_NAMES_ALLOWED = {"tests/architecture.py": "the rule itself", "tests/test_architecture.py": "its planted cases"}
# Repetitions of repetitions that were looked at: each round begins with a character that the round before can't hold.
NESTED_ALLOWED = {
    "tenants/capacity.py": "words between hyphens",
    "tenants/routing/addresses.py": "labels between dots",
    "tenants/routing/caddy_config.py": "segments between slashes",
}
LONG_FILES_ALLOWED = {"tenants/agents/demo_agent.py": "goes into images alone, so it must be one file"}


def name_of(path):
    return str(path.relative_to(rules.ROOT))


def over_product(check):
    return [line for path in rules.product_files() for line in check(path.read_text(), name_of(path))]


def test_every_import_points_to_the_left():
    found = []
    for path in rules.product_files():
        package = path.name == "__init__.py"
        found += rules.layer_violations(path.read_text(), rules.module_of(path), is_package=package)
    assert found == []


@pytest.mark.parametrize(
    ("module", "source"),
    [
        ("audit.services", "import tenants"),
        ("audit.services", "from accounts.models import User"),
        ("vault.services", "def f():\n    from tenants import models"),
        ("tenants.services", "from zcplatform import schedules"),
        ("tenants.services", "import zcplatform.settings"),
        ("zcplatform.lib.claims", "from audit import models"),
        ("zcplatform.lib.claims", "from .. import keys"),
        ("zcplatform.lib.claims", "from ..keys import read"),
        ("monitoring.tasks", "if True:\n    import billing.models as b"),
        ("zcplatform.supervisor", "from tests.factories import UserFactory"),
    ],
)
def test_an_import_to_the_right_is_seen(module, source):
    assert len(rules.layer_violations(source, module)) == 1


def test_what_the_product_imports_is_declared():
    known = rules.declared()
    found = []
    for path in rules.product_files():
        found += rules.undeclared_imports(path.read_text(), rules.module_of(path), known)
    assert found == []


def test_an_import_that_is_not_declared_is_seen():
    known = {"django", "pyjwt"}
    source = "import jwt, json\nfrom django.db import models\nfrom tenants import runs\ndef f():\n    import yaml as y"
    assert rules.undeclared_imports(source, "vault.x", known) == ["vault.x:5 imports yaml"]
    assert len(rules.undeclared_imports("import nobody_knows_it", "vault.x", known)) == 1


@pytest.mark.parametrize(
    ("module", "source"),
    [
        ("tenants.services", "from audit.services import record\nfrom zcplatform.lib import clock\nimport json"),
        ("tenants.runtimes.docker", "from .base import Runtime\nfrom .. import models\nimport docker"),
        ("zcplatform.supervisor", "from tenants import tasks\nfrom zcplatform import keys"),
        ("zcplatform.lib.claims", "from . import clock"),
    ],
)
def test_an_import_to_the_left_is_fine(module, source):
    assert rules.layer_violations(source, module) == []


def test_no_shell_reads_a_string():
    assert over_product(rules.shell_violations) == []


@pytest.mark.parametrize(
    "source",
    [
        "subprocess.run(x, shell=True)",
        "subprocess.run(x, shell=flag)",
        "os.system('ls')",
        "def f():\n    os.popen('ls')",
        "subprocess.getoutput('ls')",
        "pty.spawn('ls')",
        "from os import system",
        "asyncio.create_subprocess_shell('ls')",
        "run(['/bin/sh', '-c', text])",
        "run(('bash', '-ec', text))",
        "container.exec_run('sh -c ls')",
    ],
)
def test_a_shell_string_is_seen(source):
    assert rules.shell_violations(source, "planted")


def test_an_argument_list_is_no_shell_string():
    assert rules.shell_violations("subprocess.run(['ls', '-c'], shell=False)\nos.execv(a, b)", "planted") == []


def test_text_is_escaped_and_sql_is_constant():
    found = over_product(rules.unsafe_text_violations)
    assert [line for line in found if line.split(":")[0] not in UNSAFE_TEXT_ALLOWED] == []


@pytest.mark.parametrize(
    "source",
    [
        "mark_safe(text)",
        "django.utils.safestring.mark_safe(text)",
        "Tenant.objects.extra(where=[x])",
        "RawSQL(text, [])",
        "cursor.execute(f'SELECT {x}')",
        "cursor.execute('SELECT %s' % x)",
        "connection.cursor().execute('SELECT ' + x)",
        "cursor.executescript('SELECT {}'.format(x))",
        "User.objects.raw(f'SELECT {x}')",
        "migrations.RunSQL(f'DROP TABLE {x}')",
    ],
)
def test_unescaped_text_and_built_sql_are_seen(source):
    assert len(rules.unsafe_text_violations(source, "planted")) == 1


def test_constant_sql_is_fine():
    source = "cursor.execute('SELECT %s', [x])\nformat_html('<b>{}</b>', x)\nclient.execute(name)"
    assert rules.unsafe_text_violations(source, "planted") == []


def test_templates_leave_escaping_on():
    templates = [path for folder in ("templates", *rules.PACKAGES) for path in (rules.ROOT / folder).rglob("*.html")]
    assert [line for path in templates for line in rules.template_violations(path.read_text(), name_of(path))] == []


@pytest.mark.parametrize(
    "source",
    ["{{ x|safe }}", "{{ x | safe }}", "{% autoescape off %}", '<a onclick="x()">', '<a href="javascript:x()">'],
)
def test_a_template_that_lets_script_in_is_seen(source):
    assert rules.template_violations(source, "planted")


def test_m6_no_regular_expression_can_be_kept_busy():
    found = over_product(rules.slow_patterns)
    assert {line.split(":")[0] for line in found} == set(NESTED_ALLOWED), found
    assert len(found) == len(NESTED_ALLOWED), found


@pytest.mark.parametrize(
    "source",
    [
        "re.compile(r'(a+)+$')",
        "re.fullmatch('(?:x|(?:[a-z]*-)*?)y', text)",
        "re.search(f'(?:{x}|(y+|z)*)*', text)",
        "re.sub(rb'((a|b+){2,})*', b'', text)",
    ],
)
def test_a_repetition_of_a_repetition_is_seen(source):
    assert len(rules.slow_patterns(source, "planted")) == 1


def test_one_repetition_after_another_and_one_with_a_bound_are_fine():
    source = "re.compile('[a-z]+-[0-9]*(x|y)+')\nre.compile('(?:[a-z]{1,63}[.])+')\nname.search('(a+)+')"
    assert rules.slow_patterns(source, "planted") == []


def test_every_management_command_has_a_test():
    commands = [p.stem for p in rules.product_files() if p.parent.name == "commands" and p.stem != "__init__"]
    tests = "".join(path.read_text() for path in (rules.ROOT / "tests").rglob("*.py"))
    assert rules.untested_commands(commands, tests) == []


def test_a_command_without_a_test_is_seen():
    tests = (
        """call_command("serve"); call_command( 'rotate-key')\n[sys.executable, "manage.py", "backup"]; "restore" """
    )
    assert rules.untested_commands(["serve", "rotate_key", "backup", "restore"], tests) == ["restore"]


def test_services_and_contracts_say_what_they_do():
    files = [path for path in rules.product_files() if path.name in {"services.py", "base.py"}]
    assert [line for path in files for line in rules.undocumented(path.read_text(), name_of(path))] == []


def test_a_service_without_a_docstring_is_seen():
    source = '"""Services."""\ndef start(): ...\ndef _helper(): ...\ndef stop():\n    """Stop."""'
    assert rules.undocumented(source, "planted") == ["planted:2 start"]


def test_no_file_grows_beyond_reading():
    long = {name_of(p): n for p in rules.product_files() if (n := p.read_text().count("\n")) > rules.MAX_LINES}
    assert long.keys() <= LONG_FILES_ALLOWED.keys()


def test_no_file_names_a_registry_or_a_machine():
    found = []
    for path in rules.tracked_files():
        name = name_of(path)
        if name not in FOREIGN_NAMES_ALLOWED:
            found += rules.foreign_names(path.read_text(errors="replace"), name)
    assert found == []


@pytest.mark.parametrize(
    "text",
    [
        "https://pypi.org/simple",
        "registry.npmjs.org",
        "see /root/.cache",
        "cd /work/main",
        "/home/ada/x",
        "/opt/wheels/x",
    ],
)
def test_a_registry_or_a_path_of_one_machine_is_seen(text):
    assert rules.foreign_names(text, "planted")


@pytest.mark.parametrize("text", ["/data/work/x", "tests/work/", "https://example.test/home/", "/var/run/docker.sock"])
def test_an_ordinary_path_is_fine(text):
    assert rules.foreign_names(text, "planted") == []


def test_models_and_migrations_agree(db):
    call_command("makemigrations", "--check", "--dry-run", verbosity=0)


def test_a_model_without_its_migration_is_seen(db, monkeypatch):
    from monitoring.models import Heartbeat

    monkeypatch.setattr(Heartbeat._meta.get_field("name"), "max_length", 41)
    with pytest.raises(SystemExit):
        call_command("makemigrations", "--check", "--dry-run", verbosity=0)


def test_the_version_is_the_changelogs_newest():
    newest = re.search(r"^## (\S+)", (rules.ROOT / "CHANGELOG.md").read_text(), re.MULTILINE)
    assert newest and newest[1] == __version__
