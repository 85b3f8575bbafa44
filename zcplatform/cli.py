"""The entry of ``manage.py`` and of the console script ``zcplatform``; hyphens in command names are accepted."""

from __future__ import annotations

import os
import sys

from zcplatform import __version__


def main() -> None:
    """Run the management command that the arguments name."""
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "zcplatform.settings")
    from django.core.exceptions import ImproperlyConfigured
    from django.core.management import execute_from_command_line

    arguments = list(sys.argv)
    if _asks_for_the_version(arguments[1:]):
        sys.stdout.write(f"{__version__}\n")
        return
    if len(arguments) > 1 and not arguments[1].startswith("-"):
        arguments[1] = arguments[1].replace("-", "_")
    try:
        execute_from_command_line(arguments)
    except ImproperlyConfigured as error:
        # A setting that is wrong is the operator's to mend: the words are enough.
        if "--traceback" in arguments:
            raise
        sys.exit(f"{arguments[0]}: {error}")


def _asks_for_the_version(words: list[str]) -> bool:
    """Django would answer with its own. What stands behind ``--`` is another program's."""
    ours = words[: words.index("--")] if "--" in words else words
    return ours == ["version"] or "--version" in ours
