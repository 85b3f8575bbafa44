"""The brand of an installation: its name, its colour in both schemes, its logo. All from the settings."""

from __future__ import annotations

import hashlib
from functools import lru_cache
from pathlib import Path

from django.conf import settings
from django.http import FileResponse, Http404, HttpRequest, HttpResponse, HttpResponseBase
from django.views.decorators.http import require_safe

Colour = tuple[int, int, int]
READABLE = 4.5
"""The least contrast of text with its ground: WCAG 2.2, AA."""
_LIGHT_GROUNDS: tuple[Colour, ...] = ((0xFF, 0xFF, 0xFF), (0xFA, 0xFA, 0xF9))
_DARK_GROUNDS: tuple[Colour, ...] = ((0x17, 0x16, 0x15), (0x20, 0x1F, 0x1D))
_WHITE, _INK = (0xFF, 0xFF, 0xFF), (0x14, 0x13, 0x0F)
_LOGOS = {".svg": "image/svg+xml", ".png": "image/png"}


@require_safe
def brand_css(_request: HttpRequest) -> HttpResponse:
    """The brand's colours as CSS variables; empty when none is set."""
    answer = HttpResponse(_sheet(settings.BRAND_COLOR), content_type="text/css")
    answer["Cache-Control"] = "public, max-age=300"
    return answer


@require_safe
def brand_logo(_request: HttpRequest) -> HttpResponseBase:
    """The operator's own logo: an SVG or a PNG."""
    path = Path(settings.BRAND_LOGO)
    kind = _LOGOS.get(path.suffix.lower())
    if not settings.BRAND_LOGO or kind is None or not path.is_file():
        raise Http404
    answer = FileResponse(path.open("rb"), content_type=kind)
    answer["Cache-Control"] = "public, max-age=300"
    return answer


def version() -> str:
    """Changes with the colour, so that a browser asks anew."""
    return hashlib.sha256(settings.BRAND_COLOR.encode()).hexdigest()[:8]


@lru_cache(4)
def _sheet(colour: str) -> str:
    if not colour:
        return ""
    light = _readable(_parsed(colour), _LIGHT_GROUNDS, towards=(0, 0, 0))
    dark = _readable(_parsed(colour), _DARK_GROUNDS, towards=_WHITE)
    return (
        f":root{{{_variables(light, _WHITE)}}}\n@media (prefers-color-scheme:dark){{:root{{{_variables(dark, _INK)}}}}}"
    )


def _variables(colour: Colour, on: Colour) -> str:
    best = max((on, _WHITE, _INK), key=lambda ink: contrast(ink, colour))
    return f"--brand:{_told(colour)};--on-brand:{_told(best)}"


def _readable(colour: Colour, grounds: tuple[Colour, ...], *, towards: Colour) -> Colour:
    """``colour``, mixed with black or white until text in it can be read on every ground."""
    for part in range(0, 101, 2):
        mixed = _mixed(colour, towards, part / 100)
        if all(contrast(mixed, ground) >= READABLE for ground in grounds):
            return mixed
    return towards


def _mixed(one: Colour, other: Colour, share: float) -> Colour:
    red, green, blue = (round(a + (b - a) * share) for a, b in zip(one, other, strict=True))
    return red, green, blue


def contrast(one: Colour, other: Colour) -> float:
    """The ratio of WCAG 2.2: 1 for equal colours, 21 for black on white."""
    low, high = sorted((_luminance(one), _luminance(other)))
    return (high + 0.05) / (low + 0.05)


def _luminance(colour: Colour) -> float:
    shares = (value / 255 for value in colour)
    red, green, blue = (s / 12.92 if s <= 0.04045 else ((s + 0.055) / 1.055) ** 2.4 for s in shares)
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


def _parsed(text: str) -> Colour:
    red, green, blue = (int(text[at : at + 2], 16) for at in (1, 3, 5))
    return red, green, blue


def _told(colour: Colour) -> str:
    return "#{:02x}{:02x}{:02x}".format(*colour)
