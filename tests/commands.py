"""Management commands as a shell sees them: exit code, output, errors."""

from __future__ import annotations

import io
import json
from dataclasses import dataclass
from typing import Any

from django.core.management import call_command
from django.core.management.base import CommandError


@dataclass(frozen=True)
class Done:
    """What a command left behind."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        return json.loads(self.out)


def manage(name: str, *argv: str) -> Done:
    """Run the command in this process; the exit code is what the shell would see."""
    out, err, code = io.StringIO(), io.StringIO(), 0
    try:
        call_command(name, *argv, stdout=out, stderr=err)
    except CommandError as error:
        code = error.returncode
        err.write(str(error))
    except SystemExit as error:
        code = int(error.code or 0)
    return Done(code, out.getvalue(), err.getvalue())
