"""Who gets what from every route of the API: one line each, one column per caller.

A route that is missing here fails the suite. ``-`` is a caller for whom the question does not arise: what is open to
everybody answers everybody the same, and is tested where it is made.
"""

from __future__ import annotations

from datetime import timedelta

from zcplatform.lib import clock

CALLERS = (
    "anonymous",
    "stranger",
    "viewer",
    "contributor",
    "manager",
    "owner",
    "super_admin",
    "read_key",
    "expired_key",
    "suspended",
)

_TENANTS = """
#                                                            anon strn view cont mana ownr supr read expd susp
GET    /tenants                                               401  200  200  200  200  200  200  200  401  401
POST   /tenants                                               401  403  403  403  403  403  201  403  401  401
GET    /tenants/{tenant_id}                                   401  404  200  200  200  200  200  200  401  401
PATCH  /tenants/{tenant_id}                                   401  404  403  403  200  200  200  403  401  401
DELETE /tenants/{tenant_id}                                   401  404  403  403  403  202  202  403  401  401
POST   /tenants/{tenant_id}/undelete                          401  404  403  403  403  409  409  403  401  401
GET    /tenants/{tenant_id}/status                            401  404  200  200  200  200  200  200  401  401
POST   /tenants/{tenant_id}/deploy                            401  404  403  403  202  202  202  403  401  401
POST   /tenants/{tenant_id}/start                             401  404  403  403  202  202  202  403  401  401
POST   /tenants/{tenant_id}/stop                              401  404  403  403  202  202  202  403  401  401
POST   /tenants/{tenant_id}/restart                           401  404  403  403  409  409  409  403  401  401
POST   /tenants/{tenant_id}/suspend                           401  404  403  403  403  403  202  403  401  401
POST   /tenants/{tenant_id}/reactivate                        401  404  403  403  403  403  409  403  401  401
POST   /tenants/{tenant_id}/resize                            401  404  403  403  403  200  200  403  401  401
POST   /tenants/{tenant_id}/rotate-secrets                    401  404  403  403  403  200  200  403  401  401
POST   /tenants/{tenant_id}/transfer                          401  404  403  403  403  200  200  403  401  401
GET    /tenants/{tenant_id}/runs                              401  404  200  200  200  200  200  200  401  401
GET    /runs/{run_id}                                         401  404  200  200  200  200  200  200  401  401
GET    /runs/{run_id}/events                                  401  404  200  200  200  200  200  200  401  401
GET    /tenants/{tenant_id}/config                            401  404  200  200  200  200  200  200  401  401
PATCH  /tenants/{tenant_id}/config                            401  404  403  403  200  200  200  403  401  401
PUT    /tenants/{tenant_id}/config                            401  404  403  403  200  200  200  403  401  401
POST   /tenants/{tenant_id}/config/preview                    401  404  403  403  200  200  200  403  401  401
GET    /tenants/{tenant_id}/config/revisions                  401  404  200  200  200  200  200  200  401  401
POST   /tenants/{tenant_id}/config/rollback                   401  404  403  403  200  200  200  403  401  401
POST   /tenants/{tenant_id}/provider/test                     401  404  403  403  200  200  200  403  401  401
GET    /tenants/{tenant_id}/channels                          401  404  200  200  200  200  200  200  401  401
POST   /tenants/{tenant_id}/channels                          401  404  403  403  200  200  200  403  401  401
GET    /tenants/{tenant_id}/channels/{channel_id}             401  404  200  200  200  200  200  200  401  401
PATCH  /tenants/{tenant_id}/channels/{channel_id}             401  404  403  403  200  200  200  403  401  401
DELETE /tenants/{tenant_id}/channels/{channel_id}             401  404  403  403  200  200  200  403  401  401
POST   /tenants/{tenant_id}/channels/{channel_id}/test        401  404  403  403  200  200  200  403  401  401
GET    /tenants/{tenant_id}/members                           401  404  200  200  200  200  200  200  401  401
POST   /tenants/{tenant_id}/members                           401  404  403  403  202  202  202  403  401  401
PATCH  /tenants/{tenant_id}/members/{member_id}               401  404  403  403  200  200  200  403  401  401
DELETE /tenants/{tenant_id}/members/{member_id}               401  404  403  403  204  204  204  403  401  401
GET    /tenants/{tenant_id}/invitations                       401  404  403  403  200  200  200  403  401  401
POST   /tenants/{tenant_id}/invitations                       401  404  403  403  201  201  201  403  401  401
DELETE /tenants/{tenant_id}/invitations/{invitation_id}       401  404  403  403  204  204  204  403  401  401
POST   /invitations/accept                                    401  403  403  403  403  403  403  403  401  401
GET    /tenants/{tenant_id}/access-tokens                     401  404  403  403  200  200  200  403  401  401
POST   /tenants/{tenant_id}/access-tokens                     401  404  403  403  201  201  201  403  401  401
DELETE /tenants/{tenant_id}/access-tokens/{token_id}          401  404  403  403  204  204  204  403  401  401
GET    /tenants/{tenant_id}/pairing-code                      401  404  403  403  200  200  200  403  401  401
POST   /tenants/{tenant_id}/reset-pairing                     401  404  403  403  200  200  200  403  401  401
GET    /tenants/{tenant_id}/logs                              401  404  403  200  200  200  200  200  401  401
POST   /tenants/{tenant_id}/exec                              401  404  403  403  403  409  409  403  401  401
GET    /tenants/{tenant_id}/audit                             401  404  403  403  200  200  200  200  401  401
GET    /explain                                               401  200  200  200  200  200  200  200  401  401
GET    /plans                                                 401  200  200  200  200  200  200  200  401  401
POST   /admin/plans                                           401  403  403  403  403  403  201  403  401  401
PATCH  /admin/plans/{slug}                                    401  403  403  403  403  403  200  403  401  401
"""

_ACCOUNTS = """
#                                                            anon strn view cont mana ownr supr read expd susp
GET    /health                                                200  200  200  200  200  200  200  200  200  200
GET    /users/me                                              401  200  200  200  200  200  200  200  401  401
GET    /users/me/api-keys                                     401  200  200  200  200  200  200  200  401  401
POST   /users/me/api-keys                                     401  201  201  201  201  201  201  403  401  401
DELETE /users/me/api-keys/{key_id}                            401  204  204  204  204  204  204  403  401  401
GET    /users/me/sessions                                     401  200  200  200  200  200  200  200  401  401
DELETE /users/me/sessions                                     401  204  204  204  204  204  204  403  401  401
DELETE /users/me/sessions/{session_id}                        401  204  204  204  204  204  204  403  401  401
POST   /auth/otp/request                                      202  202  202  202  202  202  202  202  202  202
POST   /auth/otp/verify                                       401  401  401  401  401  401  401  401  401  401
POST   /auth/totp/verify                                      401  401  401  401  401  401  401  401  401  401
POST   /auth/refresh                                          401  401  401  401  401  401  401  401  401  401
POST   /auth/logout                                           401  204  204  204  204  204  204  409  401  401
GET    /auth/me                                               401  200  200  200  200  200  200  200  401  401
POST   /auth/step-up                                          401  409  409  409  409  409  409  409  401  401
GET    /admin/users                                           401  403  403  403  403  403  200  403  401  401
POST   /admin/users                                           401  403  403  403  403  403  201  403  401  401
GET    /admin/users/{user_id}                                 401  403  403  403  403  403  200  403  401  401
PATCH  /admin/users/{user_id}                                 401  403  403  403  403  403  200  403  401  401
DELETE /admin/users/{user_id}                                 401  403  403  403  403  403  204  403  401  401
GET    /admin/roles                                           401  403  403  403  403  403  200  403  401  401
POST   /admin/roles                                           401  403  403  403  403  403  201  403  401  401
PATCH  /admin/roles/{name}                                    401  403  403  403  403  403  200  403  401  401
DELETE /admin/roles/{name}                                    401  403  403  403  403  403  204  403  401  401
"""

_MONITORING = """
#                                                            anon strn view cont mana ownr supr read expd susp
GET    /monitoring/dashboard                                 401  403  403  403  403  403  200  403  401  401
GET    /monitoring/health                                    401  403  403  403  403  403  200  403  401  401
GET    /monitoring/resources                                 401  403  403  403  403  403  200  403  401  401
GET    /monitoring/usage                                     401  403  403  403  403  403  200  403  401  401
GET    /monitoring/audit                                     401  403  403  403  403  403  200  403  401  401
GET    /tenants/{tenant_id}/resources                        401  404  200  200  200  200  200  200  401  401
GET    /tenants/{tenant_id}/usage                            401  404  200  200  200  200  200  200  401  401
GET    /tenants/{tenant_id}/metrics                          401  404  200  200  200  200  200  200  401  401
GET    /alerts                                               401  200  200  200  200  200  200  403  401  401
GET    /alerts/{alert_id}                                    401  404  404  404  200  200  200  403  401  401
POST   /alerts/{alert_id}/ack                                401  404  404  404  200  200  200  403  401  401
GET    /alerts/silences                                      401  200  200  200  200  200  200  403  401  401
POST   /alerts/silences                                      401  403  403  403  403  403  201  403  401  401
DELETE /alerts/silences/{silence_id}                         401  404  404  404  204  204  204  403  401  401
GET    /alerts/metrics                                       401  200  200  200  200  200  200  200  401  401
GET    /alerts/rules                                         401  200  200  200  200  200  200  403  401  401
POST   /alerts/rules                                         401  403  403  403  403  403  201  403  401  401
GET    /alerts/rules/{rule_id}                               401  404  404  404  200  200  200  403  401  401
PATCH  /alerts/rules/{rule_id}                               401  404  404  404  200  200  200  403  401  401
DELETE /alerts/rules/{rule_id}                               401  404  404  404  204  204  204  403  401  401
GET    /alerts/notifiers                                     401  200  200  200  200  200  200  403  401  401
POST   /alerts/notifiers                                     401  403  403  403  403  403  201  403  401  401
GET    /alerts/notifiers/{notifier_id}                       401  404  404  404  200  200  200  403  401  401
PATCH  /alerts/notifiers/{notifier_id}                       401  404  404  404  200  200  200  403  401  401
DELETE /alerts/notifiers/{notifier_id}                       401  404  404  404  204  204  204  403  401  401
POST   /alerts/notifiers/{notifier_id}/test                  401  404  404  404  200  200  200  403  401  401
GET    /alerts/notifiers/{notifier_id}/deliveries            401  404  404  404  200  200  200  403  401  401
GET    /tenants/{tenant_id}/uptime                           401  404  200  200  200  200  200  200  401  401
"""

BODIES = {
    "POST /tenants": {"name": "New", "agent": "demo", "plan": "pro", "deploy": False},
    "PATCH /tenants/{tenant_id}": {"name": "Renamed"},
    "POST /tenants/{tenant_id}/suspend": {},
    "POST /tenants/{tenant_id}/reactivate": {},
    "POST /tenants/{tenant_id}/resize": {"plan": "pro"},
    "POST /tenants/{tenant_id}/transfer": {"member": "{member_id}"},
    "PATCH /tenants/{tenant_id}/config": {"model": "gpt-5"},
    "PUT /tenants/{tenant_id}/config": {"provider": "openai", "model": "gpt-5"},
    "POST /tenants/{tenant_id}/config/preview": {"model": "gpt-5"},
    "POST /tenants/{tenant_id}/config/rollback": {"revision": 1},
    "POST /tenants/{tenant_id}/provider/test": {},
    "POST /tenants/{tenant_id}/channels": {"kind": "webhook", "values": {"secret": "0123456789abcdef"}},
    "PATCH /tenants/{tenant_id}/channels/{channel_id}": {"enabled": False},
    "POST /tenants/{tenant_id}/members": {"email": "new@example.test", "role": "viewer"},
    "PATCH /tenants/{tenant_id}/members/{member_id}": {"role": "contributor"},
    "POST /tenants/{tenant_id}/invitations": {"email": "new@example.test", "role": "viewer"},
    "POST /invitations/accept": {"token": "{invitation_token}"},
    "POST /tenants/{tenant_id}/access-tokens": {"name": "site"},
    "POST /tenants/{tenant_id}/exec": {"command": "uptime"},
    "POST /admin/plans": {
        "slug": "starter",
        "name": "Starter",
        "max_channels": 3,
        "max_members": 5,
        "max_messages_per_day": 1_000,
        "max_tokens_per_month": 2_000_000,
        "cpu_limit": 0.5,
        "memory_limit_mb": 512,
        "pids_limit": 64,
        "disk_limit_mb": 2_048,
    },
    "PATCH /admin/plans/{slug}": {"max_channels": 11},
    "POST /auth/otp/request": {"email": "nobody@example.test"},
    "POST /auth/otp/verify": {"email": "nobody@example.test", "code": "000000"},
    "POST /auth/totp/verify": {"token": "x", "code": "000000"},
    "POST /auth/refresh": {"refresh_token": "x"},
    "POST /auth/step-up": {"code": "000000"},
    "POST /admin/users": {"email": "new@example.test"},
    "PATCH /admin/users/{user_id}": {"name": "x"},
    "POST /admin/roles": {"name": "helper", "label": "Helper", "abilities": ["tenant.view"]},
    "PATCH /admin/roles/{name}": {"label": "x"},
    "POST /alerts/silences": {"until": (clock.now() + timedelta(days=1)).isoformat(), "note": "Maintenance"},
    "POST /alerts/rules": {"name": "Memory", "metric": "tenant_memory_pct", "threshold": 90, "hold_s": 900},
    "PATCH /alerts/rules/{rule_id}": {"threshold": 95},
    "POST /alerts/notifiers": {"kind": "webhook", "name": "On call", "config": {"url": "https://hooks.example.com/x"}},
    "PATCH /alerts/notifiers/{notifier_id}": {"enabled": False},
    "POST /users/me/api-keys": {"name": "x", "scopes": ["read"]},
}
QUERIES = {"GET /explain": "?ability=account.view"}


def rows() -> dict[str, dict[str, int | None]]:
    """``METHOD /path`` to the status for each caller."""
    found = {}
    for line in (_TENANTS + _ACCOUNTS + _MONITORING).strip().splitlines():
        if line.startswith("#") or not line.strip():
            continue
        method, path, *statuses = line.split()
        assert len(statuses) == len(CALLERS), line
        expected = {caller: None if text == "-" else int(text) for caller, text in zip(CALLERS, statuses, strict=True)}
        found[f"{method} {path}"] = expected
    return found
