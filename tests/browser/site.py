"""A whole installation for the browser: really served, with worker processes, the process runtime, and a mailbox."""

from __future__ import annotations

import os
import re
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace

from tests import slot
from tests.architecture import ROOT
from tests.outside import Handler, server, url
from tests.smtp import Postbox, mail_server, said
from zcplatform.demo import Demo

ADMIN = "admin@example.com"
MODEL_KEY = "sk-right-0123456789"
LIMIT_S = 60


class Site(Demo):
    """The demo's own way of bringing a platform up, without its tenants."""

    def __init__(self, home: Path, smtp_port: int) -> None:
        super().__init__("process", home, lambda _line: None, ports=(0, 0))
        ours = ("ZCPLATFORM_", "ZC_TEST_HOME", "DJANGO_SETTINGS_MODULE", "ZC_FAILPOINT")
        clean = {name: value for name, value in os.environ.items() if not name.startswith(ours)}
        self.env = (
            clean
            | self._settings()
            | slot.APART
            | {
                "PYTHONPATH": str(ROOT),  # for the snippets of ours that its shell runs
                "ZCPLATFORM_ROUTER": "direct",
                "ZCPLATFORM_SMTP_HOST": "127.0.0.1",
                "ZCPLATFORM_SMTP_PORT": str(smtp_port),
                "ZCPLATFORM_SMTP_STARTTLS": "0",
                "ZCPLATFORM_ALLOW_HTTP_ENDPOINTS": "1",  # for the model provider that is played here
                "ZCPLATFORM_ENDPOINT_NETWORKS": "127.0.0.1/32",
            }
        )
        self.box = Postbox()
        self.provider = ""
        """The address of a model provider that accepts ``MODEL_KEY`` and no other key."""

    @property
    def url(self) -> str:
        return f"http://localhost:{self.web}"

    def up(self) -> None:
        self.manage("bootstrap", "--admin-email", ADMIN, "--json")
        self._serve()

    def mail_to(self, address: str, pattern: str, *, after: int) -> str:
        """What ``pattern`` finds in the first mail to ``address`` beyond the ``after`` that came before."""
        until = time.monotonic() + LIMIT_S
        while time.monotonic() < until:
            for people, message in self.box.mails[after:]:
                text = said(message)
                if address in people and (found := re.search(pattern, text)):
                    return found[1]
            time.sleep(0.1)
        raise AssertionError(f"no mail to {address} with {pattern}")

    def link_for(self, email: str) -> str:
        """A login link, made as an operator makes one."""
        return self.manage("login_link", email).strip().splitlines()[-1]


def models(handler: Handler) -> None:
    """A provider's list of models, for who brings the right key."""
    right = handler.headers.get("Authorization") == f"Bearer {MODEL_KEY}"
    handler.answer_json(200 if right else 401, {"data": []})


@contextmanager
def running(**extra: str) -> Iterator[Site]:
    """Up, and down again with everything that it started. ``extra`` are settings."""
    settings = SimpleNamespace()
    with mail_server(settings) as box, server(models) as provider, tempfile.TemporaryDirectory(prefix="zcb-") as folder:
        home = Path(folder)
        home.chmod(0o711)
        site = Site(home, settings.EMAIL_PORT)
        site.box, site.provider = box, url(provider, path="/v1")
        site.env |= {f"ZCPLATFORM_{name}": value for name, value in extra.items()}
        try:
            site.up()
            yield site
        finally:
            site.down()
