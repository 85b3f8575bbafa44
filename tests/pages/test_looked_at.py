"""Every page that a GET renders is looked at in the browser, in light, in dark and on a phone: the lists of
``tests.browser`` are held against the routes."""

from __future__ import annotations

import re
from collections import defaultdict
from uuid import UUID

from django.urls import get_resolver, resolve

from tests.browser import cast, visits
from tests.pages.conftest import browser

NO_PAGE = {
    "brand_css": "a style sheet",
    "brand_logo": "a picture",
    "openapi": "a document for programs",
    "health": "one word",
    "healthz": "one word",
    "readyz": "one word",
    "metrics": "figures for programs",
    "internal/certificate": "asked by the router",
    "run_live": "a part of the run's page",
    "tenant_state": "a part of every page of a tenant",
    "tenant_logs_download": "a file",
    "admin:login": "leads to the login page",
    "admin:password_change": "nobody has a password",
    "admin:password_change_done": "nobody has a password",
    "admin:autocomplete": "JSON for a field",
    "admin:jsi18n": "a script",
    "admin:view_on_site": "leads elsewhere, and no model has an address",
    "admin:app_list": "a list of the models of one app, which nothing links to",
}
REGISTERED = re.compile(r"admin:\w+_(?:changelist|add|change|history|delete)")
"""Opened for every model that the admin registers; see ``cast.admin_pages``."""
SAMPLES = {"str": "x", "slug": "x", "path": "1", "int": "1", "uuid": str(UUID(int=0))}
NUMBERS = ("plan", "user", "initech", "draft", "failed_run", "entry")


def routes(resolver=None, before="", space=""):
    """Name and a path of every route but the API's and those of the admin that have no name: they redirect."""
    for entry in (resolver or get_resolver()).url_patterns:
        route = before + str(entry.pattern)
        if route.startswith("api/") and hasattr(entry, "url_patterns"):
            continue
        if hasattr(entry, "url_patterns"):
            yield from routes(entry, route, f"{space}{entry.namespace}:" if entry.namespace else space)
        elif entry.name or not space:
            yield space + (entry.name or route), "/" + re.sub(r"<(?:(\w+):)?\w+>", sample, route)


def sample(found):
    return SAMPLES[found[1] or "str"]


def looked_at():
    """The names of what the browser opens."""
    ids = defaultdict(lambda: UUID(int=0), dict.fromkeys(NUMBERS, 1))
    ids |= {visits.LINK: "/login/token", visits.INVITATION: "/invitations/token"}
    ids["agreement"] = f"/alerts/by-mail/{UUID(int=0)}/token"
    found = [*cast.more_pages(ids), *(path for pages in visits.pages(ids).values() for path in pages.values())]
    return {resolve(path.partition("?")[0]).view_name for path in found}


def test_every_page_is_looked_at(super_admin):
    client, seen = browser(super_admin), looked_at()
    found = {name: path for name, path in routes() if not REGISTERED.fullmatch(name)}
    assert len(found) > 80
    left = {name: path for name, path in found.items() if name not in seen and name not in NO_PAGE}
    assert {name for name, path in left.items() if client.get(path).status_code != 405} == set()


def test_what_is_no_page_is_a_route_that_nobody_looks_at():
    assert NO_PAGE.keys() - {name for name, _path in routes()} == set()
    assert NO_PAGE.keys() & looked_at() == set()
