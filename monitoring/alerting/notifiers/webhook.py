"""A signed POST to an address of the receiver's choice."""

from __future__ import annotations

import hashlib
import hmac
import secrets
from typing import Any

from monitoring.alerting.notifiers.base import Address, dump, post
from tenants.fields import Field
from zcplatform.lib import clock, outside
from zcplatform.lib.redact import SecretStr

TIMESTAMP, SIGNATURE, DELIVERY = "X-Zcplatform-Timestamp", "X-Zcplatform-Signature", "X-Zcplatform-Delivery"


class WebhookNotifier:
    """The message as JSON. ``sign`` says what the receiver has to compute; docs/alerts.md has it in five lines."""

    name = "webhook"
    label = "Webhook"
    fields = (
        Field("url", "Address", required=True, max_length=outside.MAX_URL, help="Called with POST; https.", place=True),
        Field(
            "secret", "Signing secret", "secret", pattern=r"\S{16,200}", help="16 to 200 characters; made when empty."
        ),
    )

    def check(self, values: dict[str, Any]) -> None:
        if values.get("url"):
            outside.endpoint_of(values["url"], field="url")

    def make_secret(self) -> SecretStr:
        return SecretStr(secrets.token_urlsafe(32))

    def send(self, to: Address, message: dict[str, Any]) -> None:
        content = dump(message)
        timestamp = str(int(clock.now().timestamp()))
        headers = {
            "Content-Type": "application/json",
            TIMESTAMP: timestamp,
            SIGNATURE: sign(to.secret, timestamp, content),
            DELIVERY: to.delivery,
        }
        post(to.config["url"], content, headers)


def sign(secret: SecretStr, timestamp: str, content: bytes) -> str:
    """``v1=`` and the hex HMAC-SHA256 over the timestamp, a full stop and the raw body.

    The timestamp is inside, so a recorded request can't be played again later with a fresh one.
    """
    return f"v1={hmac.new(secret.reveal().encode(), timestamp.encode() + b'.' + content, hashlib.sha256).hexdigest()}"
