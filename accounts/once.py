"""What is shown once, on the page that a form leads to: sealed in the session until it was looked at.

Were it in the answer to the form itself, going back to it would ask to send the form again.
"""

from __future__ import annotations

from django.http import HttpRequest

from accounts.sealing import seal, unseal
from zcplatform.lib.errors import Misconfigured


def keep(request: HttpRequest, name: str, value: str) -> None:
    """For the next ``take`` of the same name in this session."""
    request.session[f"once:{name}"] = seal(value, "shown once")


def take(request: HttpRequest, name: str) -> str:
    """The value, which is then gone; empty when there is none."""
    sealed = request.session.pop(f"once:{name}", "")
    try:
        return unseal(sealed, "shown once") if sealed else ""
    except Misconfigured:  # under another pepper: then it is lost
        return ""
