"""Why somebody may, or may not."""

from __future__ import annotations

from typing import Any
from uuid import UUID

from django.http import HttpRequest
from ninja import Query, Router
from pydantic import Field

from accounts.access import require_super_admin
from accounts.auth import actor_of, caller_of
from accounts.emails import normalise_email
from accounts.models import User
from tenants.api.common import find
from tenants.explain import explain
from zcplatform.lib.apidocs import about
from zcplatform.lib.errors import NotFound
from zcplatform.lib.schemas import In, Line, Out

router = Router(tags=["own account"])


class ExplainQuery(In):
    """What is asked."""

    ability: Line = Field(max_length=64, examples=["tenant.deploy"])
    tenant: UUID | None = Field(None, description="For abilities that are had in a tenant.")
    user: Line | None = Field(None, max_length=254, description="E-mail address; super-admins only. You, by default.")


class ExplainOut(Out):
    """The answer; of the reasons the last one decides."""

    allowed: bool
    role: str | None = None
    reasons: list[str]


@router.get("", response=ExplainOut, summary="Why you may, or may not", openapi_extra=about(404))
def get_explanation(request: HttpRequest, query: Query[ExplainQuery]) -> Any:
    """Whether you have an ability, and why. What your key's scopes take away is not counted. Super-admins may ask for
    anybody."""
    user = _whom(request, query.user)
    tenant = find(request, query.tenant, "tenant.view") if query.tenant else None
    return explain(user=user, ability=query.ability, tenant=tenant)


def _whom(request: HttpRequest, email: str | None) -> User:
    caller = caller_of(request)
    if email is None:
        return caller.user
    require_super_admin(actor_of(request), "platform.view")
    user = User.objects.filter(email=normalise_email(email)).first()
    if user is None:
        raise NotFound("There is no such user.")
    return user
