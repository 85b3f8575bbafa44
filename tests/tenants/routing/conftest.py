from tests.caddy import caddy  # noqa: F401
