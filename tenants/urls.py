"""Pages of the tenants app."""

from __future__ import annotations

from django.urls import path

from tenants import pages

urlpatterns = [path("invitations/<str:token>", pages.invitation, name="invitation")]
