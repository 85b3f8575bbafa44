from pathlib import Path

import pytest
from django.core.exceptions import ImproperlyConfigured

from zcplatform.platform_toml import DEFAULT_PLANS, PlatformToml, load

OWN = """
[plans.starter]
max_channels = 3
max_members = 5
max_messages_per_day = 1000
max_tokens_per_month = 2000000
cpu_limit = 1
memory_limit_mb = 512
pids_limit = 128
disk_limit_mb = 2048
"""


def read(tmp_path, text):
    path = tmp_path / "platform.toml"
    path.write_text(text)
    return load(path)


def test_an_absent_or_empty_file_means_the_defaults(tmp_path):
    assert load(tmp_path / "absent.toml") == read(tmp_path, "") == PlatformToml()


def test_the_example_is_valid_and_says_the_defaults():
    assert load(Path(__file__).resolve().parents[2] / "platform.toml.example") == PlatformToml()


def test_a_plan_is_overridden_key_by_key(tmp_path):
    plans = read(tmp_path, "[plans.free]\nmax_channels = 4\n").plans
    assert plans["free"].max_channels == 4
    assert plans["free"].memory_limit_mb == DEFAULT_PLANS["free"].memory_limit_mb
    assert plans["pro"] == DEFAULT_PLANS["pro"]


def test_a_plan_of_its_own_names_every_limit(tmp_path):
    starter = read(tmp_path, OWN).plans["starter"]
    assert (starter.name, starter.cpu_limit) == ("Starter", 1)
    with pytest.raises(ImproperlyConfigured, match=r"\[plans\.starter\] lacks pids_limit"):
        read(tmp_path, OWN.replace("pids_limit = 128\n", ""))


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("[sever]\n", r"\[sever\]"),
        ("[server]\nprot = 1\n", r"server\.prot"),
        ("[plans.free]\nmax_chanels = 1\n", r"plans\.free\.max_chanels"),
        ('[server]\nport = "80"\n', r"server\.port"),
        ("[server]\nport = true\n", r"server\.port"),
        ("[proxy]\nhttps = 1\n", r"proxy\.https"),
        ("[plans.free]\nmemory_limit_mb = 0\n", r"plans\.free\.memory_limit_mb"),
        ("[plans.free]\nmemory_limit_mb = -1\n", r"plans\.free\.memory_limit_mb"),
        ("[plans.free]\ncpu_limit = nan\n", r"plans\.free\.cpu_limit"),
        ("[plans.free]\ncpu_limit = inf\n", r"plans\.free\.cpu_limit"),
        ('[plans."x\\ny"]\n', "not a slug"),
        ("[plans]\nfree = 1\n", r"plans\.free"),
        ("plans = 1\n", "plans"),
        ("server = 1\n", "server"),
        ("[server\n", "platform.toml"),
    ],
)
def test_a_mistake_is_refused_by_name(tmp_path, text, named):
    with pytest.raises(ImproperlyConfigured, match=named):
        read(tmp_path, text)


def test_a_file_that_is_no_text_is_refused(tmp_path):
    (tmp_path / "platform.toml").write_bytes(b"\xff\xfe")
    with pytest.raises(ImproperlyConfigured, match=r"platform\.toml"):
        load(tmp_path / "platform.toml")
