"""A tenant's access tokens: made, shown once, revoked; and the rotation of everything at once."""

from __future__ import annotations

from datetime import timedelta
from typing import Any
from uuid import UUID, uuid4

from django.contrib import messages
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect
from django.utils.translation import gettext as _

from accounts import once
from accounts.idempotency import fingerprint_of, run_once
from tenants import access_tokens, services
from tenants.admin.site import telling
from tenants.admin.tokens import TokenForm
from tenants.models import AccessToken, Tenant
from tenants.pages.frame import Viewer, address, confirm, show, tenant_page, to_step_up
from tenants.tokens import live
from zcplatform.lib import clock
from zcplatform.lib.errors import NotFound
from zcplatform.lib.redact import SecretStr


@tenant_page("tokens.manage", "GET", "HEAD", "POST")
def access_view(request: HttpRequest, tenant: Tenant, viewer: Viewer) -> HttpResponse:
    """GET the list, with a token that was just made; POST makes one, once, however often the form is sent."""
    form = TokenForm(request.POST or None)
    if request.method == "POST" and form.is_valid():
        if step := to_step_up(request, address(tenant, "access")):
            return step
        with telling(request):
            if token := _made(tenant, viewer, form.cleaned_data):
                once.keep(request, f"token:{tenant.public_id}", token)
            else:
                messages.warning(request, _("This form was sent before: the token is made, and is not shown again."))
        return redirect(address(tenant, "access"))
    return page(request, tenant, viewer, form=form)


def page(request: HttpRequest, tenant: Tenant, viewer: Viewer, **context: Any) -> HttpResponse:
    """The list, with the token in clear that was just made."""
    token = once.take(request, f"token:{tenant.public_id}")
    rows = live().filter(tenant=tenant).order_by("pk")
    context |= {"tokens": rows, "token": token, "key": uuid4().hex}
    context["run_of"] = once.take(request, f"run:{tenant.public_id}")
    answer = show(request, "access.html", tenant, viewer, "access", **context)
    answer["Cache-Control"] = "no-store, private"
    return answer


def _made(tenant: Tenant, viewer: Viewer, data: dict[str, Any]) -> str:
    """The new token's value; empty when this very form made one before."""
    made: list[SecretStr] = []
    end = clock.now() + timedelta(days=data["days"]) if data["days"] else None

    def act() -> tuple[int, None]:
        made.append(access_tokens.issue(actor=viewer.actor, tenant=tenant, name=data["name"], expires_at=end)[1])
        return 201, None

    asked = fingerprint_of("POST", "token", f"{data['days']} {data['name']}".encode())
    run_once(f"page:token:{viewer.actor.user_id}:{tenant.pk}", data["key"], asked, act)
    return made[0].reveal() if made else ""


@tenant_page("tokens.manage", "POST")
def revoke_view(request: HttpRequest, tenant: Tenant, viewer: Viewer, token: UUID) -> HttpResponse:
    """End a token at once."""
    row = AccessToken.objects.filter(tenant=tenant, public_id=token).first()
    if row is None:
        raise NotFound
    row.tenant = tenant
    access_tokens.revoke(actor=viewer.actor, token=row)
    messages.success(request, _("The token %(name)s is revoked.") % {"name": row.name})
    return redirect(address(tenant, "access"))


@tenant_page("secrets.rotate", "GET", "HEAD", "POST")
def rotate_view(request: HttpRequest, tenant: Tenant, viewer: Viewer) -> HttpResponse:
    """GET asks; POST revokes every token and leads to the page that shows the new one."""
    if step := to_step_up(request, address(tenant, "rotate")):
        return step
    if request.method == "POST":
        with telling(request):
            rotated = services.rotate_secrets(actor=viewer.actor, tenant=tenant)
            once.keep(request, f"token:{tenant.public_id}", rotated.access_token.reveal())
            if rotated.run:
                once.keep(request, f"run:{tenant.public_id}", str(rotated.run.public_id))
        return redirect(address(tenant, "access"))
    return confirm(
        request,
        tenant,
        viewer,
        "access",
        title=_("Rotate all secrets of %(tenant)s?") % {"tenant": tenant.slug},
        notes=[
            _("Every access token stops working at once; one new token is shown."),
            _("A running agent restarts with a new secret of its own."),
        ],
        button=_("Rotate secrets"),
        back=address(tenant, "access"),
    )
