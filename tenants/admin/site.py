"""What the admin's pages share: who acts, errors told in their own words, the frame of a page."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from django import forms
from django.contrib import admin, messages
from django.http import HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404
from django.template.response import TemplateResponse

from accounts.admin import actor_of
from tenants.models import Tenant
from zcplatform.lib.admin_lists import CappedPaginator
from zcplatform.lib.errors import ZCError

__all__ = ["ReadOnlyAdmin", "actor_of", "find", "page", "refused_in", "telling"]


class ReadOnlyAdmin(admin.ModelAdmin):
    """Django's own ways to add, change and delete are shut; a subclass opens what has a service behind it."""

    paginator = CappedPaginator
    show_full_result_count = False
    show_facets = admin.ShowFacets.NEVER  # each would count the whole table

    def changelist_view(self, request: HttpRequest, extra_context: Any = None) -> HttpResponse:
        """The list under its plain name."""
        title = str(self.opts.verbose_name_plural).capitalize()
        return super().changelist_view(request, {"title": title, **(extra_context or {})})

    def has_add_permission(self, request: HttpRequest) -> bool:
        return False

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False


def find(pk: int) -> Tenant:
    """The tenant with what its pages show of other tables; Http404."""
    return get_object_or_404(Tenant.objects.select_related("plan", "node", "config"), pk=pk)


def page(request: HttpRequest, template: str, *, title: str, **context: Any) -> HttpResponse:
    """A page of ours in the admin's frame."""
    context = {**admin.site.each_context(request), "opts": Tenant._meta, "title": title, **context}
    return TemplateResponse(request, f"admin/tenants/{template}", context)


@contextmanager
def telling(request: HttpRequest, about: str = "") -> Iterator[None]:
    """Tell a refusal or fault of the block as a message, in the error's own words."""
    try:
        yield
    except ZCError as error:
        messages.error(request, f"{about}: {error.message}" if about else error.message)


@contextmanager
def refused_in(form: forms.BaseForm) -> Iterator[None]:
    """Put a refusal of the block beside the field that it names, or above the form."""
    try:
        yield
    except ZCError as error:
        field = str(error.details.get("field", ""))
        form.add_error(field if field in form.fields else None, error.message)
