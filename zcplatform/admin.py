"""The platform's admin site: super-admins only, who log in as everybody does."""

from __future__ import annotations

from typing import Any
from urllib.parse import urlencode

from django.conf import settings
from django.contrib import messages
from django.contrib.admin import AdminSite
from django.core.exceptions import PermissionDenied
from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import redirect
from django.template.response import TemplateResponse
from django.urls import path

from accounts.pages import logout_page

_NOT_OURS = ("auth", "django_q", "otp_totp", "otp_static")


class PlatformAdminSite(AdminSite):
    """Django's admin without its password form."""

    site_header = site_title = settings.BRAND_NAME
    index_title = "Fleet"
    site_url = "/"

    def register(self, model_or_iterable: Any, admin_class: Any = None, **options: Any) -> None:
        """All but others' pages that pass our services by: the queue's would let one schedule any function by its name,
        django-otp's would show and make second factors, and Django's groups decide nothing here."""
        models: list[Any] = [model_or_iterable] if isinstance(model_or_iterable, type) else list(model_or_iterable)
        ours = [model for model in models if model._meta.app_label not in _NOT_OURS]
        super().register(ours, admin_class, **options)

    def index(self, request: HttpRequest, extra_context: dict[str, Any] | None = None) -> TemplateResponse:
        """The fleet at a glance."""
        from zcplatform.pages import dashboard  # what it shows registers itself here

        return super().index(request, {**dashboard.fleet_context(), **(extra_context or {})})

    def get_urls(self) -> list[Any]:
        return [path("health/", self.admin_view(self.health), name="platform_health"), *super().get_urls()]

    def health(self, request: HttpRequest) -> HttpResponse:
        """The platform's own health."""
        from zcplatform.pages import health

        context = {**self.each_context(request), "title": "Platform health", **health.facts()}
        return TemplateResponse(request, "admin/platform/health.html", context)

    def has_permission(self, request: HttpRequest) -> bool:
        """Super-admins; with ADMIN_SECOND_FACTOR only those who enrolled one, and so showed it when they logged in."""
        user: Any = request.user
        allowed = super().has_permission(request) and user.is_superuser
        return allowed and not (settings.ADMIN_SECOND_FACTOR and user.second_factor_at is None)

    def login(self, request: HttpRequest, extra_context: Any = None) -> HttpResponse:
        """To the login page; whoever is logged in already and is no super-admin is refused."""
        user: Any = request.user
        if user.is_authenticated and user.is_superuser and not self.has_permission(request):
            messages.warning(request, "The admin asks for a second factor; enrol an app first.")
            return redirect("account")
        if user.is_authenticated and not self.has_permission(request):
            raise PermissionDenied
        if request.user.is_authenticated:
            return redirect("admin:index")
        return redirect(f"/login?{urlencode({'next': request.GET.get('next', '/admin/')})}")

    def password_change(self, request: HttpRequest, extra_context: Any = None) -> TemplateResponse:
        """Http404: nobody has a password."""
        raise Http404

    def password_change_done(self, request: HttpRequest, extra_context: Any = None) -> TemplateResponse:
        """Http404, as before."""
        raise Http404

    def logout(self, request: HttpRequest, extra_context: Any = None) -> HttpResponse:  # type: ignore[override]
        """The platform's own, which is audited."""
        return logout_page(request)
