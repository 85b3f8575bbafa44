"""The question by which each channel's service says who we are: read-only, nothing is sent to anybody.

E-mail and IRC speak no HTTP and are not asked.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

Accepts = Callable[[Any], bool]
Values = Mapping[str, Any]

SERVICES = {
    "telegram": "https://api.telegram.org",
    "discord": "https://discord.com/api/v10",
    "slack": "https://slack.com/api",
    "whatsapp": "https://graph.facebook.com/v23.0",
    "lark": "https://open.larksuite.com/open-apis",
    "feishu": "https://open.feishu.cn/open-apis",
    "dingtalk": "https://api.dingtalk.com",
    "qq": "https://bots.qq.com",
}


@dataclass(frozen=True)
class Call:
    """``known``: the address is one of ``SERVICES`` and not the tenant's. ``accepts`` judges the body of a 200."""

    method: str
    url: str
    headers: Mapping[str, str] = field(default_factory=dict)
    body: Any = None
    accepts: Accepts | None = None
    known: bool = True


def call_for(kind: str, values: Values) -> Call | None:
    """The call for a channel's configuration with its secrets; None for a kind that has none."""
    make = _CALLS.get(kind)
    return make(values) if make else None


def _telegram(values: Values) -> Call:
    return Call("GET", f"{SERVICES['telegram']}/bot{values['bot_token']}/getMe", accepts=_says("ok", True))


def _discord(values: Values) -> Call:
    return Call("GET", f"{SERVICES['discord']}/users/@me", {"Authorization": f"Bot {values['bot_token']}"})


def _slack(values: Values) -> Call:
    return Call("POST", f"{SERVICES['slack']}/auth.test", _bearer(values["bot_token"]), accepts=_says("ok", True))


def _whatsapp(values: Values) -> Call:
    url = f"{SERVICES['whatsapp']}/{values['phone_number_id']}?fields=id"
    return Call("GET", url, _bearer(values["access_token"]), accepts=_says("id", values["phone_number_id"]))


def _mattermost(values: Values) -> Call:
    return Call(
        "GET", f"{values['url']}/api/v4/users/me", _bearer(values["bot_token"]), accepts=_has("id"), known=False
    )


def _matrix(values: Values) -> Call:
    url = f"{values['homeserver']}/_matrix/client/v3/account/whoami"
    return Call("GET", url, _bearer(values["access_token"]), accepts=_says("user_id", values["user_id"]), known=False)


def _signal(values: Values) -> Call:
    return Call("GET", f"{values['http_url']}/api/v1/check", known=False)


def _lark(values: Values) -> Call:
    service = SERVICES["feishu" if values.get("region") == "feishu" else "lark"]
    body = {"app_id": values["app_id"], "app_secret": values["app_secret"]}
    return Call("POST", f"{service}/auth/v3/tenant_access_token/internal", body=body, accepts=_says("code", 0))


def _dingtalk(values: Values) -> Call:
    body = {"appKey": values["client_id"], "appSecret": values["client_secret"]}
    return Call("POST", f"{SERVICES['dingtalk']}/v1.0/oauth2/accessToken", body=body, accepts=_has("accessToken"))


def _qq(values: Values) -> Call:
    body = {"appId": values["app_id"], "clientSecret": values["app_secret"]}
    return Call("POST", f"{SERVICES['qq']}/app/getAppAccessToken", body=body, accepts=_has("access_token"))


def _bearer(token: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {token}"}


def _says(name: str, wanted: Any) -> Accepts:
    return lambda answer: isinstance(answer, dict) and answer.get(name) == wanted


def _has(name: str) -> Accepts:
    return lambda answer: isinstance(answer, dict) and bool(answer.get(name))


_CALLS: dict[str, Callable[[Values], Call]] = {
    "telegram": _telegram,
    "discord": _discord,
    "slack": _slack,
    "whatsapp": _whatsapp,
    "mattermost": _mattermost,
    "matrix": _matrix,
    "signal": _signal,
    "lark": _lark,
    "dingtalk": _dingtalk,
    "qq": _qq,
}
