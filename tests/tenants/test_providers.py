import pytest

from tenants.models import AgentConfig, Tenant
from tenants.providers import PROVIDERS, check_key, endpoint_for, validate
from zcplatform.lib.errors import InvalidField
from zcplatform.lib.redact import SecretStr

KEY = SecretStr("canary-provider-key")
NAMES = "openai anthropic google groq deepseek openrouter mistral xai together fireworks cohere moonshot ollama custom"


def check(provider="openai", model="m", base_url="", has_key=True):
    return validate(provider=provider, model=model, base_url=base_url, has_key=has_key)


def refused(**values):
    with pytest.raises(InvalidField) as error:
        check(**values)
    return error.value.details["field"]


def tenant_with(**config):
    tenant = Tenant(slug="acme")
    tenant.config = AgentConfig(tenant=tenant, **config)
    return tenant


def test_the_providers_of_the_specification_are_there():
    assert set(PROVIDERS) == {*NAMES.split(), "demo"}


def test_every_well_known_address_is_https_and_without_a_slash_at_the_end():
    known = [kind.base_url for kind in PROVIDERS.values() if kind.base_url]
    assert len(known) == 12
    assert all(url.startswith("https://") and not url.endswith("/") for url in known)


@pytest.mark.parametrize("provider", [name for name, kind in PROVIDERS.items() if kind.base_url])
def test_a_provider_with_an_address_needs_model_and_key(provider):
    assert check(provider) == {"provider_name": provider, "provider_model": "m", "base_url": ""}
    assert refused(provider=provider, model="") == "model"
    assert refused(provider=provider, has_key=False) == "provider_key"


@pytest.mark.parametrize("provider", [name for name, kind in PROVIDERS.items() if kind.base_url])
def test_h6_the_key_of_a_provider_never_goes_to_another_address(provider):
    assert refused(provider=provider, base_url="https://evil.example.test/v1") == "base_url"
    tenant = tenant_with(provider_name=provider, provider_model="m", base_url="https://evil.example.test/v1")
    assert endpoint_for(tenant, KEY).base_url == PROVIDERS[provider].base_url


def test_h6_a_tenants_address_without_the_tenants_own_key_is_refused():
    assert refused(provider="custom", base_url="https://llm.example.test/v1", has_key=False) == "provider_key"
    tenant = tenant_with(provider_name="custom", provider_model="m", base_url="https://llm.example.test/v1")
    assert endpoint_for(tenant, None) is None
    assert endpoint_for(tenant, KEY).api_key == KEY


def test_a_provider_without_a_key_gets_none_of_ours():
    tenant = tenant_with(provider_name="ollama", provider_model="llama3.2", base_url="https://ollama.example.test/v1")
    assert endpoint_for(tenant, None).api_key.reveal() == "unused"
    assert refused(provider="ollama", base_url="", has_key=False) == "base_url"


@pytest.mark.parametrize(
    "url",
    [
        "http://llm.example.test/v1",
        "ftp://llm.example.test",
        "file:///etc/passwd",
        "gopher://x",
        "unix:/run/docker.sock",
        "//llm.example.test",
        "llm.example.test/v1",
        "https://",
        "https://user@llm.example.test",
        "https://user:pw@llm.example.test",
        "https://llm.example.test/v1?x=1",
        "https://llm.example.test/v1#x",
        "https://llm.example.test/\r\nX: y",
        "https://llm.example.test/a b",
        "https://llm.example.test\\@evil.example.test",
        "https://llm.example.test:0/",
        "https://llm.example.test:99999/",
        "https://[::1",
        "https://exämple.test/",
        "https://llm.example.test/" + "x" * 300,
    ],
)
def test_h5_an_address_of_another_form_is_refused(url):
    assert refused(provider="custom", base_url=url) == "base_url"


def test_http_is_allowed_by_the_operators_flag(settings):
    settings.ALLOW_HTTP_ENDPOINTS = True
    assert check("custom", base_url="http://llm.example.test:8000/v1/")["base_url"] == "http://llm.example.test:8000/v1"


@pytest.mark.parametrize(
    "pasted",
    ["", "/", "//", "/chat/completions", "/chat/completions/", "/models", "/completions", "/responses", "/embeddings"],
)
def test_an_address_that_was_pasted_with_what_is_called_below_it_is_the_same(pasted):
    assert check("custom", base_url=f"https://llm.example.test/v1{pasted}")["base_url"] == "https://llm.example.test/v1"


@pytest.mark.parametrize("path", ["", "/v1", "/chat/v1", "/models/v1", "/mymodels"])
def test_any_other_path_stays(path):
    assert check("custom", base_url=f"https://llm.example.test{path}")["base_url"] == f"https://llm.example.test{path}"


@pytest.mark.parametrize(
    ("host", "word"),
    [
        ("host.docker.internal", "container"), ("HOST.Docker.Internal.", "container"),
        ("gateway.docker.internal", "container"), ("host.containers.internal", "container"),
        ("docker.for.mac.localhost", "container"), ("[fe80::1%25eth0]", "zone"), ("[fe80::1%eth0]", "zone"),
    ],
)  # fmt: skip
def test_a_place_that_exists_only_elsewhere_is_refused_by_name_with_what_to_write(host, word):
    with pytest.raises(InvalidField) as refusal:
        check("custom", base_url=f"https://{host}:11434/v1")
    assert (word in refusal.value.message, "in your network" in refusal.value.message) == (True, True)


@pytest.mark.parametrize("model", ["a b", "a\nb", "x" * 121, "\ud800", "a\u2028b"])
def test_a_model_of_another_form_is_refused(model):
    assert refused(model=model) == "model"


@pytest.mark.parametrize("provider", ["", "demo"])
def test_without_a_provider_there_is_no_model(provider):
    columns = {"provider_name": provider, "provider_model": "", "base_url": ""}
    assert check(provider, model="", has_key=False) == columns
    for values in ({"model": "gpt"}, {"model": "", "base_url": "https://llm.example.test/v1"}):
        with pytest.raises(InvalidField, match="Choose a provider first"):
            check(provider, has_key=False, **values)
    assert endpoint_for(tenant_with(**columns), KEY) is None


def test_an_unknown_provider_is_refused():
    with pytest.raises(InvalidField) as error:
        check("skynet")
    assert error.value.type == "unknown_provider"


@pytest.mark.parametrize("key", ["a b", "a\r\nX-Admin: 1", "ä", "", "x" * 1_001, "a\x00"])
def test_a_key_that_would_break_a_header_is_refused(key):
    with pytest.raises(InvalidField) as error:
        check_key("openai", SecretStr(key))
    assert error.value.details["field"] == "provider_key"


def test_a_key_is_accepted_where_one_is_taken():
    assert check_key("openai", KEY) == KEY
    with pytest.raises(InvalidField):
        check_key("demo", KEY)


@pytest.mark.parametrize("name", PROVIDERS)
def test_the_schema_asks_for_what_validation_wants(name):
    asked = [field.name for field in PROVIDERS[name].fields]
    assert ("base_url" in asked) == PROVIDERS[name].allows_base_url
    assert ("provider_key" in asked) == PROVIDERS[name].has_model
