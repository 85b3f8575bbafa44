"""The install guide, followed word for word in an empty folder: its own lines are what is run. Its places are moved
into that folder, accounts and owners are left as they are, and where it says systemctl, its unit's command is run."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from tests import slot
from tests.architecture import ROOT
from tests.test_story import without_the_suite
from tests.zcplatform.serving import wait_for

pytestmark = [pytest.mark.docker, pytest.mark.caddy, pytest.mark.slow, pytest.mark.timeout(600)]
GUIDE = ROOT / "docs" / "operations" / "install.md"
WEB, CADDY = slot.PORT, slot.LISTEN
# What the guide tells the reader to edit.
EDITED = {
    "ZCPLATFORM_DOMAIN": "localhost",
    "ZCPLATFORM_PUBLIC_BASE_URL": f"http://localhost:{CADDY}",
    "ZCPLATFORM_CADDY_LISTEN": f":{CADDY}",
    "ZCPLATFORM_CADDY_HTTPS": "0",
}
# What keeps it apart from other installations on the machine that runs the tests.
APART = slot.APART | {"ZCPLATFORM_PORT": str(WEB), "ZCPLATFORM_PORT_RANGE": slot.text(slot.CONTAINERS)}


def blocks(section: int) -> str:
    """The commands of one section of the guide."""
    text = re.search(rf"^## {section}\. .*?(?=^## |\Z)", GUIDE.read_text(), re.MULTILINE | re.DOTALL)
    assert text, section
    return "\n".join(re.findall(r"^```\n(.*?)^```$", text[0], re.MULTILINE | re.DOTALL))


@pytest.fixture
def place():
    with tempfile.TemporaryDirectory(prefix="zcguide-") as name:
        folder = Path(name)
        folder.chmod(0o711)
        yield folder


def moved(text: str, folder: Path) -> str:
    """The same lines with the guide's places below ``folder``."""
    for place in ("/etc/zcplatform", "/var/lib/zcplatform", "/var/backups/zcplatform"):
        text = text.replace(place, f"{folder}{place}")
    return re.sub(r" -o \w+ -g \w+", "", text)


def install_command(folder: Path) -> None:
    """What section 2 puts into /usr/local/bin, with the program of these tests."""
    assert "install -m 0755 deploy/zcplatform /usr/local/bin/zcplatform" in blocks(2)
    text = moved((ROOT / "deploy" / "zcplatform").read_text(), folder)
    (folder / "bin").mkdir()
    (folder / "bin" / "zcplatform").write_text(
        text.replace("/opt/zcplatform/.venv/bin", str(Path(sys.executable).parent))
    )
    (folder / "bin" / "zcplatform").chmod(0o755)


def follow(text: str, folder: Path) -> str:
    script = folder / "followed"
    script.write_text("set -eu\n" + text)
    env = without_the_suite() | {"PATH": f"{folder / 'bin'}:{os.environ['PATH']}"}
    done = subprocess.run(["bash", script], cwd=ROOT, env=env, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, f"{text}\n{done.stdout}\n{done.stderr}"
    return done.stdout


def environment(folder: Path) -> dict[str, str]:
    """The file that the units name, as systemd reads it."""
    path = folder / "etc" / "zcplatform" / "zcplatform.env"
    lines = [line for line in path.read_text().splitlines() if line and not line.startswith("#")]
    return dict(line.split("=", 1) for line in lines)


def test_it_ends_in_a_running_tenant(place):
    folders = [line for line in blocks(3).splitlines() if line.startswith("install ")]
    assert len(folders) == 5
    for name in ("var/lib", "var/backups", "etc"):
        (place / name).mkdir(parents=True)
    install_command(place)
    follow(moved("\n".join(folders), place), place)
    path = place / "etc" / "zcplatform" / "zcplatform.env"
    text = moved(path.read_text(), place)
    for name, value in EDITED.items():
        text, count = re.subn(rf"^{name}=.*$", f"{name}={value}", text, flags=re.MULTILINE)
        assert count == 1, name
    path.write_text(text + "".join(f"{name}={value}\n" for name, value in APART.items()))

    first, doctor = moved(blocks(4), place).rstrip().rsplit("\n", 1)
    assert doctor == "zcplatform doctor"
    assert "super-admin" in follow(first, place)
    unit = (ROOT / "deploy" / "systemd" / "zcplatform.service").read_text()
    assert "ExecStart=/opt/zcplatform/.venv/bin/zcplatform serve\n" in unit
    env = without_the_suite() | environment(place)
    program = str(Path(sys.executable).with_name("zcplatform"))
    log = (place / "serve.log").open("w")
    serve = subprocess.Popen([program, "serve"], cwd=place, env=env, stdout=log, stderr=subprocess.STDOUT)
    try:
        wait_for(lambda: "router: caddy" in (place / "serve.log").read_text(), "serve is up")
        said = follow(blocks(6), place)
        assert "running" in said
        assert "hello" in said.lower()
        assert f"http://localhost:{CADDY}/login/" in said
        checked = subprocess.run([program, "doctor"], cwd=place, env=env, capture_output=True, text=True, timeout=120)
        assert checked.returncode == 0, checked.stdout
    finally:
        subprocess.run([program, "teardown", "--yes"], cwd=place, env=env, capture_output=True, timeout=120)
        serve.send_signal(signal.SIGTERM)
        serve.wait(60)
        log.close()
