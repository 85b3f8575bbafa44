"""The demo command, whole, as a newcomer runs it."""

import json
import subprocess
import sys

import pytest

from tests.test_story import without_the_suite


@pytest.mark.caddy
@pytest.mark.timeout(300)
def test_demo_check_brings_everything_up_chats_and_leaves_nothing(tmp_path):
    def run_command(*argv):
        environment = without_the_suite() | {"TMPDIR": str(tmp_path)}
        return subprocess.run(
            [sys.executable, "-m", "zcplatform", *argv], env=environment, capture_output=True, text=True, timeout=240
        )

    done = run_command("demo", "--check")
    assert done.returncode == 0, done.stderr
    result = json.loads(done.stdout)
    assert result["ok"] is True
    assert "Hello from the demo" in result["chat"]["reply"]
    assert set(result["seconds"]) == {"bootstrap", "serve", "provision_acme", "provision_globex", "chat", "teardown"}
    assert done.stderr.count("✓") == 6, "a progress line per step"
    assert list(tmp_path.iterdir()) == []
