"""``manage.py login_link EMAIL``: a way in, also in an emergency."""

from __future__ import annotations

import json
from argparse import ArgumentParser
from typing import Any

from accounts.emails import normalise_email
from accounts.login_links import LIFETIME, login_url, make_login_link
from accounts.models import User
from zcplatform.lib.actors import OPERATOR
from zcplatform.lib.commands import PlatformCommand
from zcplatform.lib.errors import NotFound


class Command(PlatformCommand):
    help = "Print a single-use address, valid for 15 minutes, by which the user EMAIL logs in."

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("email")
        super().add_arguments(parser)

    def run(self, **options: Any) -> None:
        url = login_url(make_login_link(_user(options["email"]), actor=OPERATOR))
        seconds = int(LIFETIME.total_seconds())
        self.stdout.write(json.dumps({"url": url, "expires_in": seconds}) if options["json"] else url)


def _user(email: str) -> User:
    user = User.objects.filter(email=normalise_email(email)).first()
    if user is None:
        raise NotFound(f"There is no user with the e-mail address {email}.", type="user_not_found")
    return user
