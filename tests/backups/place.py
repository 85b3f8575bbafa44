"""An installation of its own, driven by processes, and what somebody sees who opens it. Run as a module, it is that
somebody: ``python -m tests.backups.place``."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest

from tests import slot, zygote
from tests.architecture import ROOT
from tests.test_story import without_the_suite


class Place:
    """The home ``folder``; it need not be there."""

    def __init__(self, folder: Path, **extra: str) -> None:
        self.folder = folder
        self.env = without_the_suite() | {
            "ZCPLATFORM_HOME": str(folder),
            "ZCPLATFORM_CONFIG": str(folder / "platform.toml"),
            "ZCPLATFORM_ALLOW_UNPRIVILEGED_PROCESS": "1",
            "DJANGO_SETTINGS_MODULE": "zcplatform.settings",
            "PYTHONPATH": str(ROOT),
        }
        self.env |= slot.APART | slot.SERVED
        self.env |= {f"ZCPLATFORM_{name}": value for name, value in extra.items()}

    def run(self, *argv: str, failpoint: str = "", module: str = "zcplatform") -> subprocess.CompletedProcess[str]:
        env = self.env | ({"ZC_FAILPOINT": failpoint} if failpoint else {})
        return zygote.run(module, *argv, env=env, timeout=120)

    def begin(self, *argv: str, failpoint: str = "") -> zygote.Process:
        """Without waiting for its end."""
        return zygote.Process("zcplatform", argv, env=self.env | ({"ZC_FAILPOINT": failpoint} if failpoint else {}))

    def do(self, *argv: str, module: str = "zcplatform") -> str:
        done = self.run(*argv, module=module)
        assert done.returncode == 0, done.stderr + done.stdout
        return done.stdout

    def bootstrap(self) -> Place:
        self.do("bootstrap", "--admin-email", "ops@example.test")
        return self

    def put(self, name: str, value: str) -> None:
        """Store a secret."""
        self.do("put", name, value, module="tests.backups.place")

    def look(self) -> dict[str, Any]:
        """Secrets in plain, the audit's verdict, and the key versions: what a sound home shows."""
        return json.loads(self.do("look", module="tests.backups.place"))

    def backup(self, *argv: str) -> Path:
        return Path(json.loads(self.do("backup", "--json", *argv))["path"])

    def tree(self) -> dict[str, str]:
        """Every file of the home that a restore could touch, by what it holds."""
        folders = (self.folder, self.folder / "keys")
        files = [path for folder in folders if folder.is_dir() for path in folder.iterdir() if path.is_file()]
        return {str(p.relative_to(self.folder)): p.read_bytes().hex() for p in files if p.suffix != ".lock"}

    def copied(self, folder: Path) -> Place:
        shutil.copytree(self.folder, folder)
        extra = {k.removeprefix("ZCPLATFORM_"): v for k, v in self.env.items() if k.startswith("ZCPLATFORM_")}
        return Place(folder, **{k: v for k, v in extra.items() if k not in ("HOME", "CONFIG")})


def some_slow(points: list[str], quick: Iterable[str]) -> list[Any]:
    """Parameters of which only the ``quick`` ones run without ZC_SLOW=1: each is several processes."""
    return [point if point in quick else pytest.param(point, marks=pytest.mark.slow) for point in points]


def main() -> None:
    import django

    django.setup()
    from audit.services import verify_chain
    from vault import services
    from vault.models import KeyVersion, Secret
    from zcplatform.lib.actors import OPERATOR
    from zcplatform.lib.redact import SecretStr

    if sys.argv[1] == "put":
        name, value = sys.argv[2:]
        services.put(purpose="test", owner="test", field=name, value=SecretStr(value), actor=OPERATOR)
        return
    services.verify_keyring()
    rows = list(Secret.objects.order_by("pk"))
    opened = services.reveal_many(rows, actor=OPERATOR, why="test")
    told = {
        "secrets": {row.field: opened[row.pk].reveal() for row in rows},
        "versions": list(KeyVersion.objects.order_by("version").values_list("version", flat=True)),
        "fault": str(verify_chain().fault),
        "toml": Path(os.environ["ZCPLATFORM_CONFIG"]).read_text(),
    }
    print(json.dumps(told))


if __name__ == "__main__":
    main()
