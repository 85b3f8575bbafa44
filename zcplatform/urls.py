"""The routes of every app."""

from __future__ import annotations

from django.contrib import admin
from django.urls import include, path

from zcplatform import views
from zcplatform.api import api

urlpatterns = [
    path("", views.start),
    path("", include("accounts.urls")),
    path("api/", api.urls),
    path("admin/", admin.site.urls),
    path("health", views.health),
    path("healthz", views.health),
    path("readyz", views.readyz),
    path("internal/certificate", views.certificate),
]

handler400 = "zcplatform.views.bad_request"
handler403 = "zcplatform.views.forbidden"
handler404 = "zcplatform.views.not_found"
handler500 = "zcplatform.views.server_error"
