from __future__ import annotations

from pathlib import Path

import pytest

from vault import services
from zcplatform.lib.actors import OPERATOR
from zcplatform.lib.redact import SecretStr


@pytest.fixture
def key_path(settings, tmp_path) -> Path:
    """Where this test's key file will be; its folder is there."""
    folder = tmp_path / "keys"
    folder.mkdir(mode=0o700)
    settings.VAULT_KEY_FILE = folder / "vault.json"
    return settings.VAULT_KEY_FILE


@pytest.fixture
def vault(db, key_path) -> Path:
    """A vault with one key."""
    services.create_keyring()
    return key_path


@pytest.fixture
def put():
    """Store a value; the owner and the field may be named."""

    def act(value: str = "sk-0123456789abcdef", *, owner: str = "tenant-a", field: str = "api_key", purpose="provider"):
        return services.put(purpose=purpose, owner=owner, field=field, value=SecretStr(value), actor=OPERATOR)

    return act


@pytest.fixture
def read():
    """The plaintext of a secret."""
    return lambda secret: services.reveal(secret, actor=OPERATOR, why="test").reveal()
