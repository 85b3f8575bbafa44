"""Slack's incoming webhooks, and what speaks like them (Mattermost, Rocket.Chat)."""

from __future__ import annotations

from typing import Any

from monitoring.alerting import message as texts
from monitoring.alerting.notifiers.base import Address, post_json
from tenants.fields import Field
from zcplatform.lib import outside


class SlackNotifier:
    """The address is the secret: whoever knows it may write to the channel."""

    name = "slack"
    label = "Slack"
    fields = (
        Field("webhook_url", "Webhook address", "secret", True, "From Slack's “Incoming Webhooks”.", max_length=500),
    )

    def check(self, values: dict[str, Any]) -> None:
        if values.get("webhook_url"):
            outside.endpoint_of(values["webhook_url"].reveal(), field="webhook_url")

    def make_secret(self) -> None:
        return None

    def send(self, to: Address, message: dict[str, Any]) -> None:
        """``mrkdwn`` is off, so that a name with stars and back-quotes looks as it is."""
        text = "\n".join(escape(line) for line in texts.lines(message))
        post_json(to.secret.reveal(), {"text": text, "mrkdwn": False, "unfurl_links": False, "unfurl_media": False})


def escape(text: str) -> str:
    """Slack's three special characters: without them there is no link, no mention and no ``<!channel>``."""
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
