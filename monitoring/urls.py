"""Pages of the monitoring app, in the frame of a tenant's pages."""

from __future__ import annotations

from django.urls import path

from monitoring import pages

urlpatterns = [path("tenants/<str:slug>/usage", pages.usage_view, name="tenant_usage")]
