"""The platform's admin site: super-admins only, who log in as everybody does."""

from __future__ import annotations

from typing import Any
from urllib.parse import urlencode

from django.contrib.admin import AdminSite
from django.core.exceptions import PermissionDenied
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect

from accounts.pages import logout_page


class PlatformAdminSite(AdminSite):
    """Django's admin without its password form."""

    site_header = site_title = "zcplatform"
    index_title = "Fleet"
    site_url = None

    def login(self, request: HttpRequest, extra_context: Any = None) -> HttpResponse:
        """To the login page; whoever is logged in already and is no super-admin is refused."""
        if request.user.is_authenticated and not self.has_permission(request):
            raise PermissionDenied
        if request.user.is_authenticated:
            return redirect("admin:index")
        return redirect(f"/login?{urlencode({'next': request.GET.get('next', '/admin/')})}")

    def logout(self, request: HttpRequest, extra_context: Any = None) -> HttpResponse:  # type: ignore[override]
        """The platform's own, which is audited."""
        return logout_page(request)
