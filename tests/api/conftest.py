"""A tenant in an engine of memory, with everybody who could call the API about it."""

from __future__ import annotations

import hashlib
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace

import pytest
from django.conf import settings
from django.db import connection, transaction
from django.test import Client, override_settings

from accounts import api_keys, logins, tokens
from accounts.models import ApiKey, Role
from accounts.permissions import ROLES
from accounts.rates import limiter, permits
from monitoring.alerting.contacts import create_notifier
from monitoring.alerting.models import Alert, AlertRule, Silence
from tenants import access_tokens, configuration, services
from tenants.configuration import ConfigInput
from tenants.models import Invitation, Member, Node, Tenant
from tenants.states import Status
from tests import fakes, slot
from tests.factories import MemberFactory, NodeFactory, PlanFactory, UserFactory
from tests.tenants.test_channels import VALID
from vault.services import create_keyring
from zcplatform.lib import clock
from zcplatform.lib.actors import OPERATOR, SYSTEM
from zcplatform.lib.redact import SecretStr

KEY = "sk-canary-provider-0123456789"


class Api:
    """A client that sends one bearer with everything; None: none. ``own`` are the ids of what is the caller's alone."""

    def __init__(self, bearer=None):
        self.bearer, self.client, self.own = bearer, Client(raise_request_exception=False), {}

    def __call__(self, method, path, body=None, **headers):
        if self.bearer:
            headers = {"authorization": f"Bearer {self.bearer}", **headers}
        data = {} if body is None else {"data": body, "content_type": "application/json"}
        return getattr(self.client, method.lower())(f"/api{path}", headers=headers, **data)

    def get(self, path, **headers):
        return self("get", path, **headers)

    def post(self, path, body=None, **headers):
        return self("post", path, {} if body is None else body, **headers)

    def patch(self, path, body, **headers):
        return self("patch", path, body, **headers)

    def put(self, path, body, **headers):
        return self("put", path, body, **headers)

    def delete(self, path, **headers):
        return self("delete", path, **headers)


def bearer_of(user):
    """An access token of a new login."""
    login = logins.open_login(user, lifetime=tokens.LIFETIMES["access"], origin={}, verified=False)
    return tokens.sign("access", sub=str(user.public_id), stamp=user.stamp, login=str(login.public_id))


def as_user(user):
    return Api(bearer_of(user))


def with_key(user, *scopes):
    return Api(api_keys.create(user, actor=OPERATOR, name="test", scopes=scopes)[1].reveal())


@pytest.fixture(autouse=True)
def calm(settings, monkeypatch):
    """No limits left over from another test, no queue."""
    settings.API_REQUESTS_PER_MINUTE = 100_000
    monkeypatch.setattr("tenants.queue.async_task", lambda *a, **k: None)
    monkeypatch.setattr("tenants.provisioning.steps.POLL_S", 0.2)
    permits.clear()


@contextmanager
def engine_of_memory():
    from tenants import runtimes

    kinds = {**settings.RUNTIMES, "fake": "tests.fakes.ServingRuntime"}
    with override_settings(RUNTIMES=kinds, RUNTIME="fake"):
        runtimes._driver.cache_clear()
        made = fakes.ENGINES["api"]
        made.clear()
        yield made
        made.clear()


@pytest.fixture
def engine():
    """An engine of memory, and the node it serves."""
    with engine_of_memory() as made:
        yield made


def make_node() -> Node:
    return NodeFactory(
        name="fake", runtime="fake", endpoint="api", port_first=slot.IN_MEMORY[0], port_last=slot.IN_MEMORY[1]
    )


@pytest.fixture
def node(db, engine) -> Node:
    return make_node()


def own_ids(user) -> dict[str, str]:
    """A key and a session of the user's, beside the one that they call with."""
    key = api_keys.create(user, actor=OPERATOR, name="own", scopes=["read"])[0]
    login = logins.open_login(user, lifetime=tokens.LIFETIMES["access"], origin={}, verified=False)
    return {"key_id": str(key.public_id), "session_id": str(login.public_id)}


def make_tenant(name, **more) -> Tenant:
    """A stopped tenant with a provider, a channel, an access token, a run and an invitation."""
    config = ConfigInput(
        provider="openai", model="gpt-4o", provider_key=SecretStr(KEY), channels=more.pop("channels", ())
    )
    made = services.create_tenant(actor=OPERATOR, name=name, plan="pro", runtime="fake", config=config, **more)
    tenant = made.tenant
    services.start(actor=OPERATOR, tenant=tenant)
    tenant.runs.update(status="succeeded", finished_at=clock.now())
    Tenant.objects.filter(pk=tenant.pk).update(desired="stopped", status=Status.STOPPED)
    Invitation.objects.create(
        tenant=tenant,
        email=f"invited@{tenant.slug}.test",
        role="viewer",
        token_hash=tenant.slug.ljust(64, "0"),
        expires_at=clock.now() + timedelta(days=7),
    )
    return Tenant.objects.select_related("node", "plan", "config").get(pk=tenant.pk)


def ids_of(tenant) -> dict[str, str]:
    """What the paths of the routes are filled in with."""
    return {
        "tenant_id": str(tenant.public_id),
        "run_id": str(tenant.runs.first().public_id),
        "channel_id": str(tenant.channels.first().public_id),
        "member_id": str(tenant.members.filter(role="viewer").last().public_id),
        "invitation_id": str(tenant.invitations.first().public_id),
        "token_id": str(tenant.access_tokens.first().public_id),
        "slug": "pro",
    }


def alerting_ids_of(tenant, secret=None) -> dict[str, str]:
    """An alert that fires, its rule, a notifier with a secret and a silence of the tenant's own."""
    rule = AlertRule.objects.create(tenant=tenant, name="Full", metric="tenant_memory_pct", threshold=1)
    now = clock.now()
    alert = Alert.objects.create(
        rule=rule,
        tenant=tenant,
        name=rule.name,
        severity="warning",
        state="firing",
        since=now,
        seen_at=now,
        fired_at=now,
    )
    silence = Silence.objects.create(
        tenant=tenant, until=now + timedelta(hours=1), for_tenant_only=True, created_by="x"
    )
    config = {"url": "https://hooks.example.com/x", **({"secret": secret} if secret else {})}
    notifier = create_notifier(actor=OPERATOR, tenant=tenant, kind="webhook", name="On call", config=config).notifier
    rows = {"alert_id": alert, "rule_id": rule, "silence_id": silence, "notifier_id": notifier}
    return {name: str(row.public_id) for name, row in rows.items()}


def make_acme() -> Tenant:
    make_node()
    PlanFactory(slug="pro")
    return make_tenant("Acme", channels=(("webhook", VALID["webhook"]),))


def make_other() -> Tenant:
    made = make_tenant("Other", channels=(("webhook", VALID["webhook"]),))
    MemberFactory(tenant=made, role="viewer")
    return made


def make_people(acme, other):
    users = {role: MemberFactory(tenant=acme, role=role).user for role in ROLES}
    MemberFactory(tenant=acme, role="viewer")
    users["stranger"] = MemberFactory(tenant=other, role="owner").user
    users["super_admin"] = UserFactory(is_superuser=True)
    users["suspended"] = MemberFactory(tenant=acme, role="owner").user
    made = {caller: as_user(user) for caller, user in users.items()}
    type(users["suspended"]).objects.filter(pk=users["suspended"].pk).update(is_active=False)
    made["expired_key"] = with_key(users["owner"], "admin")
    ApiKey.objects.filter(user=users["owner"]).update(expires_at=clock.now() - timedelta(seconds=1))
    made |= {"anonymous": Api(), "read_key": with_key(users["owner"], "read")}
    for caller, api in made.items():
        api.own = own_ids(users.get(caller, users["owner"]))
    return SimpleNamespace(users=users, **made)


def make_ids(acme) -> dict[str, str]:
    role = Role.objects.create(name="watcher", label="Watcher", abilities=["tenant.view"])
    more = {"user_id": str(UserFactory().public_id), "name": role.name, "invitation_token": "zci_table"}
    digest = hashlib.sha256(more["invitation_token"].encode()).hexdigest()
    acme.invitations.update(token_hash=digest)
    return {**ids_of(acme), **alerting_ids_of(acme), **more}


@pytest.fixture(scope="module")
def lasting(django_db_setup, django_db_blocker):
    """The rows of ``acme``, ``other``, ``people`` and ``ids``, made once for a module that names this in its
    ``usefixtures``: each test lies in a transaction inside theirs. None may commit."""
    with (
        django_db_blocker.unblock(),
        engine_of_memory(),
        pytest.MonkeyPatch.context() as patch,
        transaction.atomic(),
    ):
        patch.setattr("tenants.queue.async_task", lambda *a, **k: None)
        create_keyring(actor=SYSTEM)
        acme, other = make_acme(), make_other()
        people = make_people(acme, other)
        yield SimpleNamespace(acme=acme, other=other, people=people, ids=make_ids(acme), at=clock.now())
        transaction.set_rollback(True)


@pytest.fixture
def made(db, engine, request):
    """Where the other fixtures look for the rows that are made already: empty unless the module has them made once."""
    if "lasting" not in request.fixturenames:
        request.getfixturevalue("vault_key")
        yield SimpleNamespace()
        return
    lasting = request.getfixturevalue("lasting")
    for caller in vars(lasting.people).values():
        if isinstance(caller, Api):
            caller.client.cookies.clear()
    fresh = Tenant.objects.select_related("node", "plan", "config")
    acme, other = fresh.get(pk=lasting.acme.pk), fresh.get(pk=lasting.other.pk)
    # To each test the rows are as young as to the first: a credential's use is noted once a minute, and it ends.
    late = clock.now() - lasting.at
    with clock.use(lambda: datetime.now(UTC) - late):
        yield SimpleNamespace(acme=acme, other=other, people=lasting.people, ids=lasting.ids)


@pytest.fixture
def acme(made) -> Tenant:
    return getattr(made, "acme", None) or make_acme()


@pytest.fixture
def other(made, acme) -> Tenant:
    """Another tenant, with a member of its own."""
    return getattr(made, "other", None) or make_other()


@pytest.fixture
def people(made, acme, other):
    """The ten who call: each an ``Api``."""
    return getattr(made, "people", None) or make_people(acme, other)


@pytest.fixture
def ids(made, acme, people) -> dict[str, str]:
    """What the routes are filled in with: all of it exists, so that a refusal is one, and not a miss. What belongs to a
    caller alone is the caller's own (see ``Api.own``)."""
    return getattr(made, "ids", None) or make_ids(acme)


class Undone:
    """What happens inside is rolled back at the end; what Redis counted, forgotten."""

    def __enter__(self):
        self.atomic = transaction.atomic()
        self.atomic.__enter__()

    def __exit__(self, *error):
        connection.set_rollback(True) if error[0] is None else None
        self.atomic.__exit__(*error)
        if settings.REDIS_URL:
            limiter.storage.reset()


__all__ = ["KEY", "Api", "Member", "Undone", "access_tokens", "as_user", "bearer_of", "configuration", "ids_of"]
