"""Commands beside the agent: those that its kind lists for diagnosis, and any for owners."""

from __future__ import annotations

import shlex

from django.http import HttpRequest, HttpResponse
from django.utils.translation import gettext as _

from tenants import operations
from tenants.agents import agent_kind
from tenants.models import Tenant
from tenants.pages.frame import Viewer, address, show, tenant_page, to_step_up
from tenants.runtimes.base import ExecResult
from zcplatform.lib.ansi import plain
from zcplatform.lib.errors import ZCError
from zcplatform.lib.terminal import visible

TIMEOUT_S = 20.0


@tenant_page("exec.diagnostic", "GET", "HEAD", "POST")
def console_view(request: HttpRequest, tenant: Tenant, viewer: Viewer) -> HttpResponse:
    """GET the commands; POST runs one, as the agent's user, without a shell, and shows what it printed."""
    if viewer.may["exec_any"] and (step := to_step_up(request, address(tenant, "console"))):
        return step
    command, failed = request.POST.get("command", "")[: operations.MAX_ARGUMENT], ""
    result: ExecResult | None = None
    if request.method == "POST":
        try:
            result = operations.execute(
                actor=viewer.actor, tenant=tenant, command=command or request.POST.get("typed", ""), timeout_s=TIMEOUT_S
            )
        except ZCError as error:
            failed = error.message
    context = {
        "commands": [shlex.join(argv) for argv in agent_kind(tenant.agent_kind).diagnostic_commands],
        "command": command or request.POST.get("typed", ""),
        "result": result,
        "output": visible(plain(result.output)) if result else "",
        "ended": ended(result) if result else "",
        "failed": failed,
        "timeout": int(TIMEOUT_S),
    }
    return show(request, "console.html", tenant, viewer, "console", **context)


def ended(result: ExecResult) -> str:
    """How the command ended, in words."""
    if result.timed_out:
        return _("Killed after %(seconds)s s.") % {"seconds": int(TIMEOUT_S)}
    text = _("Done.") if result.exit_code == 0 else _("Exit code %(code)s.") % {"code": result.exit_code}
    return f"{text} {_('The output was cut.')}" if result.truncated else text
