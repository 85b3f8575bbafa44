import pytest

from tenants.channels import CHANNELS, validate
from zcplatform.lib.errors import InvalidField
from zcplatform.lib.redact import SecretStr

VALID = {
    "telegram": {"bot_token": "123456:abc-DEF", "allow_from": ["42", "@ada_l"]},
    "discord": {"bot_token": "tok", "guild_ids": ["1"], "channel_ids": ["2"], "allow_from": ["3"]},
    "slack": {"bot_token": "xoxb-canary", "app_token": "xapp-canary", "allow_from": ["U123"]},
    "mattermost": {"url": "https://chat.example.test/", "bot_token": "tok", "mention_only": True},
    "webhook": {"secret": "sixteen letters!"},
    "whatsapp": {"access_token": "t", "phone_number_id": "12345", "verify_token": "v", "app_secret": "s"},
    "email": {
        "imap_host": "imap.example.test",
        "imap_port": 993,
        "smtp_host": "smtp.example.test",
        "username": "ada",
        "password": "p",
        "from_address": "ada@example.test",
        "allow_from": ["bob@example.test", "*"],
    },
    "irc": {"server": "irc.example.test", "nickname": "zc_bot", "channels": ["#team"]},
    "matrix": {"homeserver": "https://m.example.test", "user_id": "@bot:m.example.test", "access_token": "t"},
    "signal": {"http_url": "https://signal.example.test", "account": "+491234567"},
    "lark": {"app_id": "cli_1", "app_secret": "s", "region": "feishu"},
    "dingtalk": {"client_id": "c", "client_secret": "s"},
    "qq": {"app_id": "12345", "app_secret": "s"},
}
FIELDS = [(kind.name, field) for kind in CHANNELS.values() for field in kind.fields]


def refused(kind, values, **options):
    with pytest.raises(InvalidField) as error:
        validate(kind, values, **options)
    return error.value.details["field"]


def test_there_are_thirteen_kinds():
    assert set(CHANNELS) == set(VALID)
    assert len(CHANNELS) == 13


@pytest.mark.parametrize("kind", VALID)
def test_valid_values_are_parted_into_configuration_and_secrets(kind):
    config, secrets = validate(kind, VALID[kind])
    assert set(secrets) == set(CHANNELS[kind].secret_fields) & set(VALID[kind])
    assert all(isinstance(secret, SecretStr) for secret in secrets.values())
    assert {**config, **{name: secret.reveal() for name, secret in secrets.items()}}.keys() == VALID[kind].keys()
    assert "SecretStr" not in str(config)


@pytest.mark.parametrize("kind", VALID)
def test_stored_values_are_valid_again(kind):
    config, secrets = validate(kind, VALID[kind])
    assert validate(kind, {**config, **secrets}) == (config, secrets)


@pytest.mark.parametrize("kind", VALID)
def test_every_required_field_is_missed(kind):
    for field in CHANNELS[kind].fields:
        if field.required:
            assert refused(kind, {k: v for k, v in VALID[kind].items() if k != field.name}) == field.name
            assert refused(kind, {**VALID[kind], field.name: ""}) == field.name
            assert refused(kind, {field.name: None}, partial=True) == field.name


@pytest.mark.parametrize("kind", VALID)
@pytest.mark.parametrize("name", ["unknown", "__proto__", "enabled", "port\n"])
def test_an_unknown_field_is_refused(kind, name):
    if name != "port\n" or "port" not in VALID[kind]:
        refused(kind, {**VALID[kind], name: "x"})


@pytest.mark.parametrize(("kind", "field"), FIELDS)
@pytest.mark.parametrize("bad", ["a\nb", "a\rb", "a\x00b", "a\x7fb", "a\x85b", "a\u2028b", "a\u2029b", "a\ud800b"])
def test_e2_control_characters_and_lone_surrogates_are_refused(kind, field, bad):
    value = [bad] if field.type == "list" else bad
    assert refused(kind, {**VALID[kind], field.name: value}) == field.name


@pytest.mark.parametrize(("kind", "field"), FIELDS)
def test_e2_a_megabyte_is_refused(kind, field):
    value = ["1"] * 1_000_000 if field.type == "list" else "x" * 1_000_000
    assert refused(kind, {**VALID[kind], field.name: value}) == field.name


@pytest.mark.parametrize(("kind", "field"), FIELDS)
@pytest.mark.parametrize("bad", [{}, {"a": 1}, 1.5, object(), b"x", [[1]], [None]])
def test_a_value_of_the_wrong_type_is_refused(kind, field, bad):
    assert refused(kind, {**VALID[kind], field.name: bad}) == field.name


def test_e6_no_field_selects_a_file_an_address_or_a_port_of_the_host():
    about_the_host = {"port", "listen", "bind", "path", "file", "host", "dir", "listen_path", "proxy", "webhook_port"}
    remote = {("irc", "port")}  # of the server it connects to
    assert {(kind, field.name) for kind, field in FIELDS if field.name in about_the_host} == remote


@pytest.mark.parametrize(
    ("kind", "field", "bad"),
    [
        ("telegram", "bot_token", "nonsense"),
        ("telegram", "allow_from", ["a b"]),
        ("slack", "bot_token", "xapp-swapped"),
        ("webhook", "secret", "short"),
        ("email", "imap_host", "127.0.0.1/../x"),
        ("email", "imap_port", 0),
        ("email", "imap_port", 65_536),
        ("email", "imap_port", True),
        ("email", "imap_port", "993"),
        ("email", "from_address", "not an address"),
        ("irc", "nickname", "a b"),
        ("irc", "channels", ["#a,#b"]),
        ("irc", "channels", ["team"]),
        ("lark", "region", "mars"),
        ("mattermost", "mention_only", "yes"),
        ("mattermost", "url", "http://chat.example.test"),
        ("mattermost", "url", "https://user@chat.example.test"),
        ("mattermost", "url", "file:///etc/passwd"),
        ("signal", "account", "004912345"),
    ],
)
def test_a_value_outside_the_schema_is_refused(kind, field, bad):
    assert refused(kind, {**VALID[kind], field: bad}) == field


def test_an_unknown_kind_is_refused():
    with pytest.raises(InvalidField) as error:
        validate("carrier_pigeon", {})
    assert error.value.type == "unknown_channel"


def test_partial_checks_only_what_is_given():
    assert validate("telegram", {"allow_from": ["7", "7", "8"]}, partial=True) == ({"allow_from": ["7", "8"]}, {})
    assert validate("telegram", {}, partial=True) == ({}, {})


def test_partial_clears_an_optional_field_but_never_a_secret():
    assert validate("irc", {"channels": []}, partial=True) == ({"channels": None}, {})
    assert validate("irc", {"nickserv_password": None}, partial=True) == ({}, {})


def test_the_message_never_repeats_a_secret():
    with pytest.raises(InvalidField) as error:
        validate("telegram", {"bot_token": "canary-wrong-token"})
    assert "canary" not in str(error.value) + str(error.value.details)
