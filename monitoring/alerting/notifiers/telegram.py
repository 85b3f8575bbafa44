"""A Telegram bot that writes to a chat."""

from __future__ import annotations

from typing import Any

from monitoring.alerting import message as texts
from monitoring.alerting.notifiers.base import Address, post_json
from tenants.fields import Field

API = "https://api.telegram.org"
MAX_TEXT = 4_000  # Telegram's own limit is 4,096


class TelegramNotifier:
    """Plain text without a parse mode, so nothing in a name is markup."""

    name = "telegram"
    label = "Telegram"
    fields = (
        Field(
            "chat_id", "Chat", required=True, pattern=r"-?[0-9]{1,20}|@[A-Za-z0-9_]{5,64}", help="A number or @name."
        ),
        Field(
            "bot_token", "Bot token", "secret", True, "From @BotFather.", pattern=r"[0-9]{5,20}:[A-Za-z0-9_-]{20,100}"
        ),
    )

    def check(self, values: dict[str, Any]) -> None:
        """The fields say it all."""

    def make_secret(self) -> None:
        return None

    def send(self, to: Address, message: dict[str, Any]) -> None:
        body = {
            "chat_id": to.config["chat_id"],
            "text": "\n".join(texts.lines(message))[:MAX_TEXT],
            "link_preview_options": {"is_disabled": True},
        }
        post_json(f"{API}/bot{to.secret.reveal()}/sendMessage", body)
