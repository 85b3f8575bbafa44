"""``manage.py second_factor EMAIL``: for whoever lost theirs, or is to have one before they first log in."""

from __future__ import annotations

import io
from argparse import ArgumentParser
from typing import Any

import segno

from accounts import second_factor
from accounts.services import find_user
from zcplatform.lib.actors import OPERATOR
from zcplatform.lib.commands import PlatformCommand


class Command(PlatformCommand):
    help = "Say whether the user EMAIL has a second factor; enrol one and print its secrets, or remove it."

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("email")
        act = parser.add_mutually_exclusive_group()
        act.add_argument("--enrol", action="store_true", help="enrol an authenticator app; all the user's sessions end")
        act.add_argument("--remove", action="store_true", help="ask for none any more; all the user's sessions end")
        super().add_arguments(parser)

    def run(self, **options: Any) -> None:
        user = find_user(options["email"])
        shown: dict[str, Any] = {"email": user.email}
        if options["enrol"]:
            shown |= second_factor.enrol_by_operator(user, actor=OPERATOR).shown()
        elif options["remove"]:
            second_factor.remove(user, actor=OPERATOR)
        user.refresh_from_db()
        since = user.second_factor_at
        shown |= {
            "enrolled_at": since.isoformat() if since else None,
            "recovery_codes_left": second_factor.codes_left(user),
        }
        if options["json"]:
            self.print_json(shown)
            return
        self.stdout.write(f"{user.email}: " + (f"enrolled on {since:%Y-%m-%d}" if since else "no second factor"))
        if "url" in shown:
            self.stdout.write(in_words(shown))


def in_words(enrolled: dict[str, Any]) -> str:
    """The secret and the recovery codes for a terminal, shown this once."""
    codes = "\n".join(f"    {code}" for code in enrolled["recovery_codes"])
    picture = io.StringIO()
    segno.make(enrolled["url"]).terminal(picture, compact=True)
    return (
        f"Add this to an authenticator app; it is shown this once:\n{picture.getvalue()}\n"
        f"    secret {enrolled['secret']}\n"
        f"Recovery codes, each good for one login without the app:\n{codes}"
    )
