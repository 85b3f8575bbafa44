"""Pages of the accounts app."""

from __future__ import annotations

from django.urls import path

from accounts import pages

urlpatterns = [
    path("login", pages.login_page, name="login"),
    path("login/<str:token>", pages.login_link, name="login_link"),
    path("logout", pages.logout_page, name="logout"),
]
