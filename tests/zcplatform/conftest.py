"""The small world of the tenants' tests serves here too."""

from tests.tenants.conftest import world

__all__ = ["world"]
