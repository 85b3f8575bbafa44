"""Looking into a running agent: its logs, and commands beside it."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator, Sequence
from datetime import datetime

from django.db import transaction
from django.db.models import Max

from tenants import last_words, secrets
from tenants.access import can, deny, require
from tenants.agents import agent_kind
from tenants.models import Tenant
from tenants.runs import audit
from tenants.runtimes import runtime_for
from tenants.runtimes.base import ExecResult, LogPart
from tenants.secrets import Opened
from tenants.states import Desired, Status
from zcplatform.lib.actors import Actor
from zcplatform.lib.errors import Conflict, Forbidden, InvalidField
from zcplatform.lib.redact import MIN_VALUE_LENGTH, scrub
from zcplatform.lib.text import check_text

MAX_TAIL = 1_000
EXEC_TIMEOUT_S = 60.0
MAX_TIMEOUT_S = 600.0
EXEC_CAP = 1_048_576
LEFT_OUT = "[... lines are left out here: the agent wrote more than is read at a time ...]\n"
_TIME = re.compile(r"(?:-|\d{4}-\d\d-\d\dT[\d:.]+Z) ")
GONE = "[the agent failed and was removed; these are its last lines before that]"
MAX_ARGV, MAX_ARGUMENT = 64, 4_096


def read_logs(*, actor: Actor, tenant: Tenant, tail: int = 100, times: bool = False) -> str:
    """The last ``tail`` lines (1 to 1,000) that the agent printed, without its secrets; of one that failed and is
    gone, what it printed before. Empty when there is none. With ``times`` each begins with its time, or a hyphen, and
    a space."""
    require(actor, "logs.read", tenant)
    if tenant.agent_handle is None:
        return _last_words(tenant, tail, times=times)
    text = runtime_for(tenant.node).logs(tenant.agent_handle, tail=max(1, min(tail, MAX_TAIL)), times=times)
    return scrub(text, _opened(tenant, actor).values())


def _last_words(tenant: Tenant, tail: int, *, times: bool = False) -> str:
    """Of an agent that failed and was removed: what it printed before."""
    kept = last_words.read(tenant).rstrip("\n")
    if not kept:
        return ""
    lines = kept.split("\n")[-max(1, min(tail, MAX_TAIL)) :]
    told = [f"- {GONE}", *(line if _TIME.match(line) else f"- {line}" for line in lines), ""]
    return "\n".join(told if times else [_TIME.sub("", line) for line in told])


def follow_logs(*, actor: Actor, tenant: Tenant, tail: int = 100, times: bool = False) -> Iterator[str]:
    """The last ``tail`` lines and then, at each turn, the lines that came meanwhile: an empty text when there are none.

    At most about 1 MB at a turn; where that is less than what came, a line says so. Ends when the agent is gone.
    Whether the actor may still read is the caller's to ask between turns.
    """
    require(actor, "logs.read", tenant)
    # The mark first: a line that comes in between is told twice rather than lost.
    mark = _logs_after(tenant, "").mark
    yield read_logs(actor=actor, tenant=tenant, tail=tail, times=times)
    known: datetime | None = None
    opened = Opened()
    while (fresh := Tenant.objects.select_related("node").get(pk=tenant.pk)).desired != Desired.DELETED:
        part = _logs_after(fresh, mark, times=times)
        mark = part.mark
        if part.text and (changed := _secrets_changed_at(fresh)) != known:
            opened, known = _opened(fresh, actor), changed
        yield (("- " if times else "") + LEFT_OUT if part.missed else "") + scrub(part.text, opened.values())


def _secrets_changed_at(tenant: Tenant) -> datetime | None:
    return tenant.secrets.aggregate(at=Max("secret__updated_at"))["at"]


def _logs_after(tenant: Tenant, mark: str, *, times: bool = False) -> LogPart:
    handle = tenant.agent_handle
    return runtime_for(tenant.node).logs_after(handle, mark, times=times) if handle else LogPart("", mark)


def execute(
    *, actor: Actor, tenant: Tenant, command: str | Sequence[str], timeout_s: float = EXEC_TIMEOUT_S
) -> ExecResult:
    """Run a command beside the agent, as its uid, without a shell; a string is split as a shell would split it.

    Managers may run what starts with one of the kind's diagnostic commands, owners anything. Forbidden, Conflict
    ``not_running`` or ``wrong_state``, InvalidField, with the type ``secret_in_command`` for one that would stand in
    the audit. At the limit the command is killed with all it started.
    """
    require(actor, "exec.diagnostic", tenant)
    argv, limit = _argv(command), _limit(timeout_s)
    if not _is_diagnostic(tenant, argv) and not can(actor, "exec.any", tenant):
        refusal = Forbidden("Your role may run the agent's diagnostic commands only.", ability="exec.any")
        deny(refusal, actor=actor, ability="exec.any", tenant=tenant)
    fresh = Tenant.objects.select_related("node").get(pk=tenant.pk)
    handle = fresh.agent_handle
    if fresh.desired == Desired.DELETED or fresh.status != Status.RUNNING or handle is None:
        raise Conflict(f"The agent does not run: the tenant is {fresh.status}.", type="not_running")
    opened = _opened(tenant, actor)
    told = _for_audit(argv, opened)
    with transaction.atomic():
        # Before the act: a command that was run and not recorded would be worse than the reverse.
        audit(fresh, "tenant.exec", actor, argv=told)
    result = runtime_for(fresh.node).exec(handle, argv, timeout_s=limit, cap=EXEC_CAP)
    return ExecResult(result.exit_code, scrub(result.output, opened.values()), result.truncated, result.timed_out)


def _argv(command: str | Sequence[str]) -> list[str]:
    try:
        argv = shlex.split(command) if isinstance(command, str) else list(command)
    except ValueError as error:
        raise InvalidField(f"The command can't be split: {error}.", field="command") from error
    if not argv or len(argv) > MAX_ARGV:
        raise InvalidField(f"A command has 1 to {MAX_ARGV} words.", field="command")
    for word in argv:
        if not isinstance(word, str) or "\0" in word or len(word) > MAX_ARGUMENT:
            raise InvalidField("A word of a command is text without NUL.", field="command")
    check_text(argv[0], field="command", max_length=MAX_ARGUMENT, required=True)
    return argv


def _limit(seconds: float) -> float:
    if not 0 < seconds <= MAX_TIMEOUT_S:  # neither is a number that is none
        raise InvalidField(f"A time limit is more than 0 and at most {MAX_TIMEOUT_S:g} seconds.", field="timeout")
    return seconds


def _is_diagnostic(tenant: Tenant, argv: list[str]) -> bool:
    return any(tuple(argv[: len(p)]) == p for p in agent_kind(tenant.agent_kind).diagnostic_commands)


def _for_audit(argv: list[str], opened: Opened) -> list[str]:
    """``argv`` as the audit keeps it. A secret that somebody has entered is refused rather than masked: whoever chose
    it could choose what the audit does not say. The agent's own token is nobody's choice."""
    made = [value for name, value in opened.of_tenant.items() if name == "agent_token"]
    for value in opened.values():
        text = value.reveal()
        if value not in made and len(text) >= MIN_VALUE_LENGTH and any(text in word for word in argv):
            message = "The command holds a secret of this tenant, and the audit keeps commands; name its file instead."
            raise InvalidField(message, type="secret_in_command", field="command")
    return [scrub(word, made) for word in argv]


def _opened(tenant: Tenant, actor: Actor) -> Opened:
    return secrets.reveal_all(tenant, actor=actor, why="remove secrets from output", left_behind=True)
