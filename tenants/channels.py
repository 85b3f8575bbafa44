"""The channel kinds: one schema each, which drives the form, the API's validation and the config renderers alike.

No field selects a file, an address or a port that the agent would open on the host: only where it connects to.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from tenants.fields import Field, clean_all, origin_of
from zcplatform.lib.errors import InvalidField
from zcplatform.lib.redact import SecretStr

_HOST = r"[A-Za-z0-9]([A-Za-z0-9.-]{0,251}[A-Za-z0-9])?"
_NUMBERS = r"-?[0-9]{1,32}"
_IDS = r"[A-Za-z0-9_-]{1,64}"


@dataclass(frozen=True)
class ChannelKind:
    name: str
    label: str
    fields: tuple[Field, ...]
    help: str = ""

    @property
    def secret_fields(self) -> tuple[str, ...]:
        return tuple(field.name for field in self.fields if field.secret)

    def origin(self, config: Mapping[str, Any]) -> str:
        """Where the channel's secrets go; empty where the service has one address, which is in the agent's program."""
        return origin_of(self.fields, config)


def _allow_from(pattern: str, help: str) -> Field:
    return Field(
        "allow_from",
        "Who may write",
        "list",
        pattern=rf"\*|{pattern}",
        help=f"{help} Empty: nobody. *: anyone.",
    )


_KINDS = (
    ChannelKind(
        "telegram",
        "Telegram",
        (
            Field("bot_token", "Bot token", "secret", True, "From @BotFather.", r"[0-9]{3,20}:[A-Za-z0-9_-]{3,}"),
            _allow_from(rf"{_NUMBERS}|@?[A-Za-z0-9_]{{5,32}}", "Telegram user IDs or names."),
        ),
    ),
    ChannelKind(
        "discord",
        "Discord",
        (
            Field("bot_token", "Bot token", "secret", True, "From the Discord developer portal."),
            Field("guild_ids", "Servers", "list", help="Server IDs; empty: all.", pattern=_NUMBERS),
            Field("channel_ids", "Channels", "list", help="Channel IDs; empty: all.", pattern=_NUMBERS),
            _allow_from(_NUMBERS, "Discord user IDs."),
        ),
    ),
    ChannelKind(
        "slack",
        "Slack",
        (
            Field("bot_token", "Bot token", "secret", True, "Begins with xoxb-.", r"xoxb-.+"),
            Field("app_token", "App token", "secret", True, "Begins with xapp-; for socket mode.", r"xapp-.+"),
            Field("channel_ids", "Channels", "list", help="Channel IDs; empty: all.", pattern=_IDS),
            _allow_from(_IDS, "Slack member IDs."),
        ),
    ),
    ChannelKind(
        "mattermost",
        "Mattermost",
        (
            Field("url", "Server", "url", True, "For instance https://chat.example.com."),
            Field("bot_token", "Bot token", "secret", True, "From System Console, Bot Accounts."),
            Field("team_ids", "Teams", "list", help="Team IDs; empty: all.", pattern=_IDS),
            Field("channel_ids", "Channels", "list", help="Channel IDs; empty: all.", pattern=_IDS),
            Field("mention_only", "Only when mentioned", "boolean"),
            _allow_from(_IDS, "Mattermost user IDs."),
        ),
    ),
    ChannelKind(
        "webhook",
        "Webhook",
        (
            Field(
                "secret",
                "Secret",
                "secret",
                True,
                "Callers sign the body: X-Webhook-Signature: sha256=<hex HMAC>. 16 characters or more.",
                r".{16,}",
            ),
        ),
        "Messages come in as HTTP requests at the agent's address.",
    ),
    ChannelKind(
        "whatsapp",
        "WhatsApp",
        (
            Field("access_token", "Access token", "secret", True, "From Meta Business Suite.", max_length=1_000),
            Field("phone_number_id", "Phone number ID", required=True, pattern=r"[0-9]{5,32}"),
            Field("verify_token", "Verify token", "secret", True, "You choose it and enter it at Meta."),
            Field("app_secret", "App secret", "secret", True, "Proves that a message comes from Meta."),
            _allow_from(r"\+?[0-9]{5,20}", "Phone numbers like +4912345678."),
        ),
        "The Cloud API of Meta.",
    ),
    ChannelKind(
        "email",
        "E-mail",
        (
            Field("imap_host", "IMAP server", required=True, pattern=_HOST, place=True),
            Field(
                "imap_port",
                "IMAP port",
                "integer",
                low=1,
                high=65_535,
                help="993 unless given.",
                place=True,
                unset="993",
            ),
            Field("smtp_host", "SMTP server", required=True, pattern=_HOST, place=True),
            Field(
                "smtp_port",
                "SMTP port",
                "integer",
                low=1,
                high=65_535,
                help="465 unless given.",
                place=True,
                unset="465",
            ),
            Field("username", "User name", required=True),
            Field("password", "Password", "secret", True, "Often an app password."),
            Field("from_address", "Sender", "email", True),
            _allow_from(r"[^@\s*]+@[^@\s]+", "E-mail addresses."),
        ),
        "Reads a mailbox by IMAP and answers by SMTP, both with TLS.",
    ),
    ChannelKind(
        "irc",
        "IRC",
        (
            Field("server", "Server", required=True, pattern=_HOST, place=True),
            Field(
                "port",
                "Port",
                "integer",
                low=1,
                high=65_535,
                help="6697 unless given, with TLS.",
                place=True,
                unset="6697",
            ),
            Field("nickname", "Nickname", required=True, pattern=r"[A-Za-z\[\]\\`_^{|}][A-Za-z0-9\[\]\\`_^{|}-]{0,29}"),
            Field("channels", "Channels", "list", help="Like #team.", pattern=r"[#&][^\s,:]{1,49}"),
            Field("nickserv_password", "NickServ password", "secret", pattern=r"\S+"),
            Field("server_password", "Server password", "secret", pattern=r"\S+"),
            _allow_from(r"[^\s!@,*]{1,30}", "Nicknames."),
        ),
    ),
    ChannelKind(
        "matrix",
        "Matrix",
        (
            Field("homeserver", "Homeserver", "url", True, "For instance https://matrix.org."),
            Field("user_id", "User", required=True, help="Like @bot:matrix.org.", pattern=r"@[^\s:]+:[^\s]+"),
            Field("access_token", "Access token", "secret", True, max_length=1_000),
            Field("room_ids", "Rooms", "list", help="Like !abc:matrix.org; empty: all.", pattern=r"[!#][^\s:]+(:\S+)?"),
            _allow_from(r"@[^\s:]+:[^\s]+", "Matrix users."),
        ),
    ),
    ChannelKind(
        "signal",
        "Signal",
        (
            Field("http_url", "signal-cli", "url", True, "Address of a signal-cli daemon that the agent can reach."),
            Field("account", "Number", required=True, help="Like +4912345678.", pattern=r"\+[0-9]{5,20}"),
            _allow_from(r"\+[0-9]{5,20}|[0-9a-fA-F-]{36}", "Phone numbers or Signal IDs."),
        ),
    ),
    ChannelKind(
        "lark",
        "Lark / Feishu",
        (
            Field("app_id", "App ID", required=True, pattern=_IDS),
            Field("app_secret", "App secret", "secret", True),
            Field("encrypt_key", "Encrypt key", "secret"),
            Field("verification_token", "Verification token", "secret"),
            Field(
                "region",
                "Region",
                choices=("lark", "feishu"),
                help="lark unless given; feishu in China.",
                place=True,
                unset="lark",
            ),
            _allow_from(_IDS, "Open IDs."),
        ),
    ),
    ChannelKind(
        "dingtalk",
        "DingTalk",
        (
            Field("client_id", "Client ID", required=True, pattern=_IDS),
            Field("client_secret", "Client secret", "secret", True),
            _allow_from(_IDS, "Staff IDs."),
        ),
    ),
    ChannelKind(
        "qq",
        "QQ",
        (
            Field("app_id", "App ID", required=True, pattern=r"[0-9]{3,20}"),
            Field("app_secret", "App secret", "secret", True),
            _allow_from(_IDS, "User open IDs."),
        ),
    ),
)
CHANNELS: dict[str, ChannelKind] = {kind.name: kind for kind in _KINDS}


def validate(
    kind: str, values: Mapping[str, Any], *, partial: bool = False
) -> tuple[dict[str, Any], dict[str, SecretStr]]:
    """What to store of a channel's values: the configuration, and the secrets for the vault.

    InvalidField names the field; an unknown kind is ``unknown_channel``. With ``partial`` only what is given is
    checked, and None in the configuration clears an optional field; a secret is replaced, never cleared.
    """
    schema = CHANNELS.get(kind)
    if schema is None:
        raise InvalidField("There is no such channel.", type="unknown_channel", field="channel_type")
    cleaned = clean_all(schema.fields, values, partial=partial)
    secrets = {name: value for name, value in cleaned.items() if isinstance(value, SecretStr)}
    config = {name: value for name, value in cleaned.items() if name not in schema.secret_fields}
    return config, secrets
