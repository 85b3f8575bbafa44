"""The brand in templates. Tags rather than a context: error pages are rendered without a request."""

from __future__ import annotations

from django import template
from django.conf import settings

from zcplatform import branding

register = template.Library()


@register.simple_tag
def brand_name() -> str:
    return settings.BRAND_NAME


@register.simple_tag
def brand_logo() -> bool:
    """Whether the operator gave a logo of their own."""
    return bool(settings.BRAND_LOGO)


@register.simple_tag
def brand_version() -> str:
    return branding.version()
