"""The tenants in the admin. What changes anything goes through the services; what was observed is only shown."""

from tenants.admin import capacity, runs, tenants

__all__ = ["capacity", "runs", "tenants"]
