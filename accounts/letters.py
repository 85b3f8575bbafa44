"""What a mail says, out of two templates: plain text for everybody, HTML for those whose program shows it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from django.template import Context
from django.template.loader import get_template, render_to_string


@dataclass(frozen=True)
class Letter:
    """``html`` says the same as ``text``; it loads nothing from anywhere."""

    subject: str
    text: str
    html: str


def write(name: str, subject: str, /, **context: Any) -> Letter:
    """The letter of the templates ``mail/<name>.txt`` and ``mail/<name>.html``."""
    context = {**context, "subject": subject}
    plain: Any = get_template(f"mail/{name}.txt")
    text = plain.template.render(Context(context, autoescape=False))  # it is no HTML: an & stays an &
    return Letter(subject, text, render_to_string(f"mail/{name}.html", context))
