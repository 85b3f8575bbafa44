"""The API's reference, as a page and as a document, for whoever is logged in."""

from __future__ import annotations

import json
from typing import Any
from urllib.parse import urlencode

from django.http import HttpRequest, HttpResponse, JsonResponse
from django.shortcuts import redirect, render
from django.views.decorators.http import require_safe

from accounts.auth import authenticate
from zcplatform.api import api
from zcplatform.lib.errors import ZCError
from zcplatform.middleware import json_error


@require_safe
def page(request: HttpRequest) -> HttpResponse:
    """The reference to read. It is written here and needs no script."""
    if not request.user.is_authenticated:
        return redirect(f"/login?{urlencode({'next': request.path})}")
    whole = document()
    paragraphs = [part.replace("**", "").replace("`", "") for part in whole["info"]["description"].split("\n\n")]
    context = {"sections": sections(whole), "version": whole["info"]["version"], "paragraphs": paragraphs}
    return render(request, "zcplatform/api_docs.html", context)


@require_safe
def openapi(request: HttpRequest) -> HttpResponse:
    """The OpenAPI document, for programs."""
    try:
        authenticate(request)
    except ZCError as error:
        return json_error(request, error)
    return JsonResponse(document())


def document() -> dict[str, Any]:
    """OpenAPI 3.1 as plain JSON values."""
    return json.loads(json.dumps(api.get_openapi_schema(path_prefix="/api/")))


def sections(whole: dict[str, Any]) -> list[dict[str, Any]]:
    """The routes by tag, each with what the page shows of it."""
    schemas = whole["components"]["schemas"]
    found: dict[str, list[dict[str, Any]]] = {}
    for path, operations in whole["paths"].items():
        for method, operation in operations.items():
            tag = operation.get("tags", ["other"])[0]
            found.setdefault(tag, []).append(_shown(path, method, operation, schemas))
    return [{"tag": tag, "routes": routes} for tag, routes in sorted(found.items())]


def _shown(path: str, method: str, operation: dict[str, Any], schemas: dict[str, Any]) -> dict[str, Any]:
    body = operation.get("requestBody", {}).get("content", {}).get("application/json", {})
    return {
        "path": path,
        "method": method.upper(),
        "id": operation["operationId"],
        "summary": operation["summary"],
        "description": operation.get("description", ""),
        "open": "security" not in operation,
        "parameters": [_parameter(item) for item in operation.get("parameters", [])],
        "fields": fields(body.get("schema", {}), schemas),
        "example": _pretty(body.get("example")),
        "answers": [_answer(status, answer, schemas) for status, answer in sorted(operation["responses"].items())],
    }


def _parameter(item: dict[str, Any]) -> dict[str, Any]:
    return {
        "name": item["name"],
        "place": item["in"],
        "type": type_of(item["schema"]),
        "required": item["required"],
        "description": item.get("description", ""),
    }


def _answer(status: str, answer: dict[str, Any], schemas: dict[str, Any]) -> dict[str, Any]:
    content = answer.get("content", {}).get("application/json", {})
    schema = content.get("schema", {})
    error = int(status) >= 400
    return {
        "status": status,
        "description": answer["description"],
        "error": error,
        "fields": [] if error else fields(schema, schemas),
        "example": _pretty(content.get("example")),
    }


def fields(schema: dict[str, Any], schemas: dict[str, Any]) -> list[dict[str, Any]]:
    """The fields of an object's schema; of a list's, those of its items."""
    schema = _resolved(schema, schemas)
    if schema.get("type") == "array":
        return fields(schema["items"], schemas)
    required = schema.get("required", [])
    return [
        {
            "name": name,
            "type": type_of(item),
            "required": name in required,
            "description": item.get("description", ""),
        }
        for name, item in schema.get("properties", {}).items()
    ]


def type_of(schema: dict[str, Any]) -> str:
    """The type in words: ``string (date-time)``, ``list of ApiKey``, ``string or null``."""
    if "$ref" in schema:
        return schema["$ref"].rpartition("/")[2]
    if "anyOf" in schema:
        return " or ".join(type_of(part) for part in schema["anyOf"])
    if "enum" in schema:
        return "one of " + ", ".join(map(str, schema["enum"]))
    if schema.get("type") == "array":
        return f"list of {type_of(schema.get('items', {}))}"
    kind = str(schema.get("type", "any"))
    return f"{kind} ({schema['format']})" if "format" in schema else kind


def _resolved(schema: dict[str, Any], schemas: dict[str, Any]) -> dict[str, Any]:
    return schemas.get(schema["$ref"].rpartition("/")[2], {}) if "$ref" in schema else schema


def _pretty(value: Any) -> str:
    return "" if value is None else json.dumps(value, indent=2, ensure_ascii=False)
