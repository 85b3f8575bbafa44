"""The life of a tenant: one keyword-only function per use case.

Each checks the actor's ability, then changes rows, audit and outbox in one transaction and leaves the work in
the world to a run. What takes effect on a running agent returns that run.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from django.conf import settings
from django.db import IntegrityError, transaction

from accounts.emails import normalise_email
from accounts.models import User
from tenants import access_tokens, configuration, invitations, offer, revisions, secrets, tokens
from tenants.access import require
from tenants.agents import agent_kind
from tenants.egress import reach
from tenants.events import emit
from tenants.membership import refusals_recorded
from tenants.models import AgentConfig, Hold, Member, Node, Plan, Run, Tenant
from tenants.runs import accept, ask, audit, change
from tenants.states import Desired, HoldKind, Reason, RunKind, Status
from tenants.status import save, set_status
from zcplatform.lib import clock
from zcplatform.lib.actors import SYSTEM, Actor
from zcplatform.lib.errors import Conflict, Forbidden, InvalidField
from zcplatform.lib.redact import SecretStr
from zcplatform.lib.slugs import check_slug, slug_from_name, with_suffix
from zcplatform.lib.text import check_text
from zcplatform.lib.words import count

FOLDER_ABSENT = "folder_absent"


@dataclass(frozen=True)
class Created:
    """``access_token`` is shown once and never again."""

    tenant: Tenant
    access_token: SecretStr
    run: Run | None


@dataclass(frozen=True)
class Rotated:
    """``access_token`` is shown once and never again; ``run`` is None when the tenant is down."""

    run: Run | None
    access_token: SecretStr


def create_tenant(
    *,
    actor: Actor,
    name: str,
    plan: str = "free",
    slug: str | None = None,
    agent: str = "demo",
    runtime: str | None = None,
    config: configuration.ConfigInput | None = None,
    owner: str | None = None,
    deploy_now: bool = False,
) -> Created:
    """Make a tenant with its first access token, and deploy it when asked. The actor becomes its owner; where ``owner``
    is another's address, which only a super-admin names, that address is invited to be it.

    Forbidden unless the actor is unrestricted or sign-up is open, and then as ``tenants.offer`` says; InvalidField
    ``plan_too_small``, ``invalid_slug``, ``reserved_slug``, ``invalid_field``, with ``deploy_now`` ``model_required``;
    Conflict ``slug_taken`` for a slug that was asked for.
    """
    runtime = runtime or settings.RUNTIME
    offer.require_create(actor, plan=plan, agent=agent, runtime=runtime)
    name = check_text(name, field="name", max_length=100, required=True)
    if slug is not None:
        check_slug(slug)
    address = _owner_address(owner, actor)
    chosen = _plan(plan)
    _check_fits(agent, chosen)
    node = pick_node(runtime)
    given = configuration.check(agent, config or configuration.ConfigInput())
    reach.refuse_itself(node, given.columns.get("base_url", ""))
    with refusals_recorded(actor, None, "tenant.create"), transaction.atomic():
        tenant = _insert(name, slug, plan=chosen, agent_kind=agent, node=node)
        AgentConfig.objects.create(tenant=tenant)
        configuration.store(tenant, given, actor=actor)
        revisions.keep(tenant, "tenant.create", actor=actor)
        _add_owner(tenant, address, actor)
        token, shown = tokens.mint(tenant, "first", created_by=actor.label)
        emit(tenant, "tenant.created", {"slug": tenant.slug, "plan": chosen.slug, "agent": agent})
        audit(tenant, "tenant.create", actor, plan=chosen.slug, agent=agent, token_id=str(token.public_id))
        run = accept(tenant, RunKind.PROVISION, actor=actor, prepare=_to_running) if deploy_now else None
    return Created(tenant=tenant, access_token=shown, run=run)


def rename(*, actor: Actor, tenant: Tenant, name: str) -> Run | None:
    """Give the tenant another name, which its agent may show; None when that changes nothing that runs.

    The slug, and with it the address, stays. InvalidField, Conflict ``run_active``.
    """
    require(actor, "tenant.update", tenant)
    name = check_text(name, field="name", max_length=100, required=True)
    if name == tenant.name:
        return None
    return change(
        tenant,
        RunKind.RECONFIGURE,
        "tenant.update",
        actor=actor,
        prepare=lambda row: save(row, name=name),
        name=name,
    )


def deploy(*, actor: Actor, tenant: Tenant) -> Run:
    """Bring the tenant up. The same run while one is active; Conflict ``held`` or ``tenant_deleting``, InvalidField
    ``model_required`` for an agent that can't start without one."""
    return ask(tenant, RunKind.PROVISION, "tenant.deploy", actor=actor, prepare=_to_running)


def start(*, actor: Actor, tenant: Tenant) -> Run:
    """Start a stopped tenant; for one that runs, make sure that it really does."""
    return ask(tenant, RunKind.START, "tenant.start", actor=actor, prepare=_to_running)


def stop(*, actor: Actor, tenant: Tenant) -> Run:
    """Stop the tenant and leave it stopped. Takes the place of a run that is under way."""
    return ask(tenant, RunKind.STOP, "tenant.stop", actor=actor, prepare=_to_stopped)


def restart(*, actor: Actor, tenant: Tenant, cause: str = "") -> Run:
    """Stop and start the agent. Conflict ``wrong_state`` unless it is meant to run. ``cause`` is for the audit."""
    why = {"cause": cause} if cause else {}
    return ask(tenant, RunKind.RESTART, "tenant.restart", actor=actor, prepare=_back_to_running, **why)


def suspend(*, actor: Actor, tenant: Tenant, hold: str = HoldKind.OPERATOR, note: str = "") -> Run:
    """Set a hold and take the tenant down. Setting the same hold again changes nothing."""
    note = check_text(note, field="note", max_length=200)
    kind = _hold_kind(hold)

    def prepare(row: Tenant) -> None:
        if not row.holds.filter(kind=kind, lifted_at__isnull=True).exists():
            Hold.objects.create(tenant=row, kind=kind, note=note, set_by=actor.label)
            emit(row, "hold.set", {"kind": kind})
            audit(row, "hold.set", actor, kind=kind, note=note)
        if row.desired != Desired.SUSPENDED:
            save(row, resume_to=row.desired, desired=Desired.SUSPENDED)

    return ask(tenant, RunKind.SUSPEND, "tenant.suspend", actor=actor, prepare=prepare, hold=kind)


def reactivate(*, actor: Actor, tenant: Tenant, hold: str = HoldKind.OPERATOR) -> Run:
    """Lift a hold; with the last one lifted the tenant returns to what it was. Conflict ``not_held``."""
    kind = _hold_kind(hold)

    def prepare(row: Tenant) -> None:
        lifted = row.holds.filter(kind=kind, lifted_at__isnull=True).update(
            lifted_at=clock.now(), lifted_by=actor.label
        )
        if not lifted:
            raise Conflict(f"There is no {kind} hold on this tenant.", type="not_held", hold=kind)
        emit(row, "hold.lifted", {"kind": kind})
        audit(row, "hold.lift", actor, kind=kind)
        if row.holds.filter(lifted_at__isnull=True).exists():
            return
        save(row, desired=row.resume_to)
        if row.desired == Desired.RUNNING:
            set_status(row, Status.DEPLOYING)

    return ask(tenant, RunKind.REACTIVATE, "tenant.reactivate", actor=actor, prepare=prepare, hold=kind)


def resize(*, actor: Actor, tenant: Tenant, plan: str) -> Run | None:
    """Change the plan; None when the tenant is down and the new limits take effect at its next start.

    Conflict ``held`` under the operator's hold or one for billing, but for a super-admin; InvalidField
    ``plan_too_small`` when the agent needs more memory; Forbidden ``plan_limit`` when the tenant already has more
    channels or members than the plan allows, and as ``tenants.offer`` says.
    """
    chosen = _plan(plan)

    def prepare(row: Tenant) -> None:
        _refuse_under(row, actor, HoldKind.OPERATOR, HoldKind.BILLING)
        offer.check_resize(actor, row, chosen)
        _check_fits(row.agent_kind, chosen)
        _check_counts(row, chosen)
        save(row, plan_id=chosen.pk)

    with refusals_recorded(actor, tenant, "tenant.resize"):
        return change(tenant, RunKind.RESIZE, "tenant.resize", actor=actor, prepare=prepare, plan=chosen.slug)


def rotate_secrets(*, actor: Actor, tenant: Tenant) -> Rotated:
    """Give the agent a new bearer, revoke every access token and make a new one."""
    shown: list[SecretStr] = []

    def prepare(row: Tenant) -> None:
        shown.append(access_tokens.replace_all(row, "rotated", actor=actor))
        if row.desired != Desired.RUNNING:
            # The next start issues a new one.
            secrets.remove(row, actor=actor, name="agent_token")

    run = change(
        tenant, RunKind.ROTATE_SECRETS, "secret.rotate", actor=actor, prepare=prepare, ability="secrets.rotate"
    )
    return Rotated(run=run, access_token=shown[0])


def delete(*, actor: Actor, tenant: Tenant, purge: bool = False) -> Run:
    """Take the tenant down for good. Takes the place of any run under way; asking again gives the same run.

    Conflict ``held`` under the operator's hold, but for a super-admin: what it was set for may have to be looked at.
    """

    def prepare(row: Tenant) -> None:
        _refuse_under(row, actor, HoldKind.OPERATOR)
        save(row, desired=Desired.DELETED)
        set_status(row, Status.DELETING)

    return ask(tenant, RunKind.DEPROVISION, "tenant.delete", actor=actor, prepare=prepare, purge=purge)


def repair(*, tenant: Tenant, cause: str) -> Run:
    """Let reconcile bring the tenant back to what its row says; audited as drift.

    Conflict ``wrong_state`` when somebody has asked for something else since ``tenant`` was read.
    """
    kinds: dict[str, RunKind] = {Desired.RUNNING: RunKind.START, Desired.DELETED: RunKind.DEPROVISION}
    kind = kinds.get(tenant.desired, RunKind.STOP)
    if kind == RunKind.START and cause == FOLDER_ABSENT:
        kind = RunKind.RESTART  # what runs still has its hands on the folder that is gone
    params: dict[str, Any] = {"cause": cause}
    if kind == RunKind.DEPROVISION:
        # Whoever asked for the deletion also said what is to become of the folder.
        last = tenant.runs.filter(kind=kind).order_by("-pk").first()
        params["purge"] = bool(last and last.params.get("purge"))

    def prepare(row: Tenant) -> None:
        if row.desired != tenant.desired:
            raise Conflict("Somebody has asked for something else meanwhile.", type="wrong_state")
        audit(row, "tenant.drift", SYSTEM, cause=cause)
        if row.desired == Desired.RUNNING:
            set_status(row, Status.DEPLOYING, Reason.SPEC_DRIFT, cause)

    return ask(tenant, kind, "tenant.repair", actor=SYSTEM, prepare=prepare, **params)


# --- what a run's request changes on the row ---------------------------------------------------------------


def _refuse_held(row: Tenant) -> None:
    if row.desired == Desired.SUSPENDED:
        held = ", ".join(row.holds.filter(lifted_at__isnull=True).values_list("kind", flat=True))
        raise Conflict(f"This tenant is suspended ({held} hold); reactivate it first.", type="held", holds=held)


def _refuse_under(row: Tenant, actor: Actor, *kinds: HoldKind) -> None:
    """The platform, an operator and a super-admin are those who set holds, and are not bound by them."""
    if actor.unrestricted:
        return
    held = ", ".join(row.holds.filter(kind__in=kinds, lifted_at__isnull=True).values_list("kind", flat=True))
    if held:
        raise Conflict(f"This tenant is suspended ({held} hold); ask the operator.", type="held", holds=held)


def _refuse_without_model(row: Tenant) -> None:
    kind = agent_kind(row.agent_kind)
    if kind.needs_model and not row.config.provider_name:
        raise InvalidField(
            f"{kind.label} needs a model: name a provider, a model and the provider's key.",
            type="model_required",
            field="provider",
        )


def _to_running(row: Tenant) -> None:
    _refuse_held(row)
    _refuse_without_model(row)
    save(row, desired=Desired.RUNNING)
    set_status(row, Status.DEPLOYING)


def _back_to_running(row: Tenant) -> None:
    _refuse_held(row)
    if row.desired != Desired.RUNNING:
        raise Conflict(f"This tenant is meant to be {row.desired}; start it instead.", type="wrong_state")
    set_status(row, Status.DEPLOYING)


def _to_stopped(row: Tenant) -> None:
    if row.desired == Desired.SUSPENDED:
        raise Conflict("This tenant is suspended; it does not run.", type="wrong_state")
    save(row, desired=Desired.STOPPED)


# --- parts of the above ----------------------------------------------------------------------------------


def pick_node(runtime: str) -> Node:
    """The active node of this runtime with the most free slots. Conflict ``no_node``."""
    nodes = list(Node.objects.filter(runtime=runtime, state=Node.State.ACTIVE))
    if not nodes:
        text = f"There is no active node for the runtime “{runtime}”; an operator adds one by bootstrap."
        raise Conflict(text, type="no_node", runtime=runtime)
    return max(nodes, key=lambda node: node.capacity - node.tenants.filter(slot__isnull=False).count())


def _insert(name: str, slug: str | None, **columns: Any) -> Tenant:
    for candidate in [slug] if slug else slugs_like(slug_from_name(name)):
        try:
            with transaction.atomic():
                return Tenant.objects.create(name=name, slug=candidate, **columns)
        except IntegrityError as error:
            if not Tenant.objects.alive().filter(slug=candidate).exists():
                raise
            taken = error
    raise Conflict(f"The slug “{candidate}” is taken.", type="slug_taken", field="slug") from taken


def slugs_like(slug: str) -> Iterable[str]:
    """The slug itself, then with numbers: ``acme``, ``acme-2``, …"""
    for number in range(1, 100):
        candidate = slug if number == 1 else with_suffix(slug, number)
        try:
            yield check_slug(candidate)
        except InvalidField:
            continue


def _plan(slug: str) -> Plan:
    plan = Plan.objects.filter(slug=slug).first()
    if plan is None:
        known = ", ".join(Plan.objects.values_list("slug", flat=True))
        raise InvalidField(f"There is no plan “{slug}”, but: {known}.", type="unknown_plan", field="plan")
    return plan


def _check_fits(agent: str, plan: Plan) -> None:
    kind = agent_kind(agent)
    if plan.memory_limit_mb < kind.min_memory_mb:
        raise InvalidField(
            f"{kind.label} needs {kind.min_memory_mb} MB; the plan {plan.name} has {plan.memory_limit_mb} MB.",
            type="plan_too_small",
            field="plan",
            needed_mb=kind.min_memory_mb,
        )


def _check_counts(row: Tenant, plan: Plan) -> None:
    """An open invitation takes a member's place: whoever accepts it is not to meet a smaller plan."""
    members, invited = row.members.count(), invitations.open_ones(row).count()
    told = count(members, "member") + (f" and {count(invited, 'open invitation')}" if invited else "")
    channels = row.channels.count()
    for number, what, limit in (
        (channels, count(channels, "channel"), plan.max_channels),
        (members + invited, told, plan.max_members),
    ):
        if number > limit:
            text = f"The tenant has {what}; the plan {plan.name} allows {limit}."
            raise Forbidden(text, type="plan_limit", limit=limit)


def _hold_kind(value: str) -> str:
    if value not in HoldKind.values:
        raise InvalidField(f"There is no hold “{value}”.", type="unknown_hold", field="hold")
    return value


def _owner_address(owner: str | None, actor: Actor) -> str:
    """Empty where the actor is to be owner."""
    address = normalise_email(owner) if owner else ""
    if address in ("", actor.email):
        return ""
    if not actor.unrestricted:
        raise Forbidden("Only a super-admin may create a tenant for somebody else.")
    return address


def _add_owner(tenant: Tenant, address: str, actor: Actor) -> None:
    """Who makes the tenant owns it; somebody else is asked first, and until they accept nobody does."""
    if address:
        invitations.invite(actor=actor, tenant=tenant, email=address, role="owner")
    elif (user := User.objects.filter(pk=actor.user_id or 0).first()) is not None:
        offer.check_room(actor, user, tenant.plan)
        Member.objects.create(tenant=tenant, user=user, role="owner")
