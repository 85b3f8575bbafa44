"""The platform's admin site: super-admins only, who log in as everybody does."""

from __future__ import annotations

from typing import Any
from urllib.parse import urlencode

from django.contrib.admin import AdminSite
from django.core.exceptions import PermissionDenied
from django.db.models import Count
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect
from django.template.response import TemplateResponse

from accounts.pages import logout_page
from backups import results
from tenants.models import Run, Tenant
from tenants.states import Status

LAST = 10
_NOT_OURS = ("django_q", "otp_totp", "otp_static")


class PlatformAdminSite(AdminSite):
    """Django's admin without its password form."""

    site_header = site_title = "zcplatform"
    index_title = "Fleet"
    site_url = None

    def register(self, model_or_iterable: Any, admin_class: Any = None, **options: Any) -> None:
        """All but others' pages that pass our services by: the queue's would let one schedule any function by its name,
        django-otp's would show and make second factors."""
        models: list[Any] = [model_or_iterable] if isinstance(model_or_iterable, type) else list(model_or_iterable)
        ours = [model for model in models if model._meta.app_label not in _NOT_OURS]
        super().register(ours, admin_class, **options)

    def index(self, request: HttpRequest, extra_context: dict[str, Any] | None = None) -> TemplateResponse:
        """The fleet at a glance."""
        return super().index(request, {**_fleet(), **(extra_context or {})})

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


def _fleet() -> dict[str, Any]:
    counts = dict(Tenant.objects.alive().order_by().values_list("status").annotate(Count("pk")))
    return {
        "counts": [(status.value, counts[status]) for status in Status if status in counts],
        "attention": Tenant.objects.filter(status=Status.ERROR).order_by("-updated_at")[:LAST],
        "guards": results.guards(),
        "runs": Run.objects.select_related("tenant").order_by("-pk")[:LAST],
    }
