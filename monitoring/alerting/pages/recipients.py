"""Where the link in a mail about alerts leads: whoever reads it says yes or stop, with or without an account."""

from __future__ import annotations

from uuid import UUID

from django.http import HttpRequest, HttpResponse
from django.shortcuts import render
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_http_methods

from monitoring.alerting import agreements
from zcplatform.lib.errors import RequestError

MAX_TOKEN = 100
TEMPLATE = "monitoring/agreement.html"


@never_cache
@require_http_methods(["GET", "HEAD", "POST"])
def agreement_view(request: HttpRequest, agreement: UUID, token: str) -> HttpResponse:
    """GET shows the buttons and changes nothing (mail programs open links); POST ``say`` is yes or stop."""
    try:
        row = agreements.find(agreement, token[:MAX_TOKEN])
        said = request.POST.get("say", "")
        if said in _ACTS:
            _ACTS[said](row)
    except RequestError as error:
        return render(request, TEMPLATE, {"error": error.message}, status=error.status)
    state = agreements.states(row.tenant, [row.address])[row.address]
    context = {"row": row, "state": state, "said": said if said in _ACTS else "", "open": agreements.is_open(row)}
    return render(request, TEMPLATE, context)


_ACTS = {"yes": agreements.agree, "stop": agreements.stop}
