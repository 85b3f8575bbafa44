"""Users of the API, and the ways in which they call."""

import pytest
from django.test import Client

from accounts import api_keys, logins, tokens
from accounts.models import User
from accounts.rates import permits
from zcplatform.lib.actors import OPERATOR


@pytest.fixture(autouse=True)
def _no_permits_left_over():
    permits.clear()


@pytest.fixture
def dana(db):
    return User.objects.create_user("dana@example.com")


@pytest.fixture
def root(db):
    return User.objects.create_superuser("root@example.com")


class Api:
    """A client of the API that sends one bearer with everything."""

    def __init__(self, bearer):
        self.bearer, self.client = bearer, Client()

    def __call__(self, method, path, body=None, **headers):
        headers = {"authorization": f"Bearer {self.bearer}", **headers}
        data = {} if body is None else {"data": body, "content_type": "application/json"}
        return getattr(self.client, method)(f"/api/{path}", headers=headers, **data)

    def get(self, path, **headers):
        return self("get", path, **headers)

    def post(self, path, body=None, **headers):
        return self("post", path, body if body is not None else {}, **headers)

    def delete(self, path, **headers):
        return self("delete", path, **headers)


def access_token(user, *, verified=False):
    """An access token of a new login."""
    login = logins.open_login(user, lifetime=tokens.LIFETIMES["access"], origin={}, verified=verified)
    return tokens.sign("access", sub=str(user.public_id), stamp=user.stamp, login=str(login.public_id))


def key_of(user, *scopes):
    """The value of a new API key."""
    return api_keys.create(user, actor=OPERATOR, name="test", scopes=scopes or ["admin"])[1].reveal()
