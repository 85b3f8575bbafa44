"""The tenants that somebody may see."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from django.db.models import Q, QuerySet
from django.http import HttpRequest, HttpResponse
from django.shortcuts import render

from tenants import offer, quotas, words
from tenants.models import Plan, Tenant
from tenants.pages.bars import Bar, bar_of
from tenants.pages.frame import actor_of, signed_in
from tenants.pages.paging import page_of
from tenants.routing import router
from tenants.states import SILENT, Status
from zcplatform.lib.actors import Actor


@dataclass(frozen=True)
class Line:
    """One tenant in a list."""

    tenant: Tenant
    why: str
    since: str
    url: str
    messages: Bar
    tokens: Bar


@signed_in("GET", "HEAD")
def tenants_view(request: HttpRequest) -> HttpResponse:
    """A page of fifty, by name; filtered by status, plan and what stands in the slug or name."""
    actor = actor_of(request)
    asked = {name: request.GET.get(name, "").replace("\0", "")[:100] for name in ("q", "status", "plan")}
    rows = page_of(chosen(actor, asked), request, key="slug")
    context = {
        "rows": rows,
        "lines": lines_of(rows.items),
        "asked": asked,
        "filtered": any(asked.values()),
        "statuses": [*(status for status in Status.values if status != Status.DELETED), SILENT],
        "plans": Plan.objects.order_by("memory_limit_mb", "name").values_list("slug", "name"),
        "may_create": may_create(actor),
    }
    return render(request, "tenants/pages/tenants.html", context)


def chosen(actor: Actor, asked: dict[str, str]) -> QuerySet[Tenant]:
    rows = Tenant.objects.visible_to(actor).alive().select_related("plan", "node")
    if asked["q"]:
        rows = rows.filter(Q(slug__icontains=asked["q"]) | Q(name__icontains=asked["q"]))
    if asked["status"]:
        rows = rows.seen_as(asked["status"])
    return rows.filter(plan__slug=asked["plan"]) if asked["plan"] else rows


def lines_of(tenants: list[Any]) -> list[Line]:
    """State, address and usage of each, in two queries for all."""
    used, url = quotas.of_many(tenants) if tenants else {}, router().url
    return [
        Line(
            tenant,
            words.reason(tenant),
            words.headline(tenant),
            url(tenant.slug) if tenant.routed else "",
            *(bar_of(quota) for quota in used[tenant.pk]),
        )
        for tenant in tenants
    ]


def may_create(actor: Actor) -> bool:
    return offer.is_open_to(actor)
