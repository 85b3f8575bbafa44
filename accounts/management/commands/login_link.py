"""``manage.py login_link EMAIL``: a way in, also in an emergency."""

from __future__ import annotations

import json
from argparse import ArgumentParser
from typing import Any

from accounts.login_links import LIFETIME, login_url, make_login_link
from accounts.services import find_user
from zcplatform.lib.actors import OPERATOR
from zcplatform.lib.commands import PlatformCommand


class Command(PlatformCommand):
    help = "Print a single-use address, valid for 15 minutes, by which the user EMAIL logs in."

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("email")
        super().add_arguments(parser)

    def run(self, **options: Any) -> None:
        url = login_url(make_login_link(find_user(options["email"]), actor=OPERATOR))
        seconds = int(LIFETIME.total_seconds())
        self.stdout.write(json.dumps({"url": url, "expires_in": seconds}) if options["json"] else url)
