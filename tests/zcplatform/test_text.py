"""What comes along when a text is pasted goes; what stands inside it is refused as before."""

from __future__ import annotations

import pytest

from tenants import channels, providers
from zcplatform.lib import env
from zcplatform.lib.errors import InvalidField
from zcplatform.lib.redact import SecretStr
from zcplatform.lib.text import check_text

AROUND = ["\n", "\r\n", "\n\n", "\t", " ", "\u00a0", "\u2003", "\u2028", "\u200b", "\ufeff", " \r\n\t "]


@pytest.mark.parametrize("around", AROUND)
def test_what_surrounds_a_pasted_text_goes(around):
    assert check_text(f"{around}Acme Ltd{around}", field="name", max_length=8) == "Acme Ltd"


@pytest.mark.parametrize("around", AROUND)
def test_a_pasted_key_is_the_key(around):
    pasted = SecretStr(f"{around}sk-canary{around}")
    assert providers.check_key("openai", pasted).reveal() == "sk-canary"
    values = {"bot_token": f"{around}123456:AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA{around}", "allow_from": ["1"]}
    _config, opened = channels.validate("telegram", values)
    assert opened["bot_token"].reveal() == "123456:AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA"


@pytest.mark.parametrize("inside", ["\n", "\r\n", "\x00", "\u2028", "\u202e", "\x1b"])
def test_what_stands_inside_is_still_refused(inside):
    with pytest.raises(InvalidField):
        check_text(f"Acme{inside}Ltd", field="name", max_length=80)
    with pytest.raises(InvalidField):
        providers.check_key("openai", SecretStr(f"sk-{inside}canary"))


@pytest.mark.parametrize("edge", ["\x00", "\x1b", "\x7f", "\u202e", "\ud800"])
def test_a_control_character_at_the_edge_is_none_that_was_pasted(edge):
    with pytest.raises(InvalidField):
        check_text(f"Acme{edge}", field="name", max_length=80)


@pytest.mark.parametrize("blank", ["", "\n", " \u00a0\ufeff"])
def test_white_space_alone_is_empty(blank):
    with pytest.raises(InvalidField, match="empty"):
        check_text(blank, field="name", max_length=80, required=True)
    with pytest.raises(InvalidField):
        providers.check_key("openai", SecretStr(blank))


def test_a_setting_is_trimmed_like_the_file_it_could_come_from(monkeypatch, tmp_path):
    monkeypatch.setenv("ZCPLATFORM_METRICS_TOKEN", "canary\n")
    assert env.text("METRICS_TOKEN") == "canary"
    monkeypatch.delenv("ZCPLATFORM_METRICS_TOKEN")
    (tmp_path / "token").write_text(" canary\r\n")
    monkeypatch.setenv("ZCPLATFORM_METRICS_TOKEN_FILE", str(tmp_path / "token"))
    assert env.text("METRICS_TOKEN") == "canary"
