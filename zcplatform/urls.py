"""The routes of every app."""

from __future__ import annotations

from django.contrib import admin
from django.urls import include, path

from zcplatform import api_docs, branding, views
from zcplatform.api import api
from zcplatform.metrics import metrics
from zcplatform.pages import dashboard

admin.autodiscover()
urlpatterns = [
    path("", dashboard.dashboard, name="dashboard"),
    path("brand.css", branding.brand_css, name="brand_css"),
    path("brand/logo", branding.brand_logo, name="brand_logo"),
    path("", include("accounts.urls")),
    path("", include("monitoring.urls")),
    path("", include("tenants.urls")),
    path("api/docs", api_docs.page, name="api_docs"),
    path("api/openapi.json", api_docs.openapi, name="openapi"),
    path("api/", api.urls),
    path("admin/", admin.site.urls),
    path("health", views.health),
    path("healthz", views.health),
    path("readyz", views.readyz),
    path("metrics", metrics),
    path("internal/certificate", views.certificate),
]

handler400 = "zcplatform.views.bad_request"
handler403 = "zcplatform.views.forbidden"
handler404 = "zcplatform.views.not_found"
handler500 = "zcplatform.views.server_error"
