"""Slugs: the first label of a tenant's address. Checked as a whole string, never with ``match`` and ``$``."""

from __future__ import annotations

import re
import unicodedata

from zcplatform.lib.errors import InvalidField

MIN_LENGTH, MAX_LENGTH = 3, 30
_SLUG = re.compile(r"[a-z0-9](?:[a-z0-9-]{1,28})[a-z0-9]")

RESERVED = frozenset(
    """
    about abuse account accounts acme-challenge admin administrator api app apps assets auth autoconfig
    autodiscover backup billing blog caddy cdn chat console contact dashboard dev dns docs download email
    example ftp gateway git health healthz help host hostmaster imap info internal invalid ldap localhost
    localdomain login logout mail metrics monitoring mta-sts news noc node nodes ns1 ns2 ntp oauth operator
    platform pop pop3 postmaster proxy readyz root router security sftp signin signup smtp ssh ssl staging
    static status support sysadmin system telemetry tls usenet uucp vault vpn web webmaster webmail wpad www
    www1 www2 zcplatform
    """.split()  # noqa: SIM905
)


def check_slug(slug: str) -> str:
    """The slug itself when it may be used; otherwise InvalidField ``invalid_slug`` or ``reserved_slug``."""
    if not isinstance(slug, str) or not _SLUG.fullmatch(slug) or "--" in slug or slug.startswith("xn-"):
        raise InvalidField(
            f"A slug has {MIN_LENGTH} to {MAX_LENGTH} of a-z, 0-9 and single hyphens, with no hyphen at either end.",
            type="invalid_slug",
            field="slug",
        )
    if slug in RESERVED:
        raise InvalidField(f"“{slug}” is reserved for the platform.", type="reserved_slug", field="slug")
    return slug


def slug_from_name(name: str) -> str:
    """A slug made from a display name; may be reserved or taken, which the caller settles with a suffix."""
    ascii_name = unicodedata.normalize("NFKD", name).encode("ascii", "ignore").decode().lower()
    slug = re.sub(r"[^a-z0-9]+", "-", ascii_name).strip("-")[: MAX_LENGTH - 4].strip("-")
    if len(slug) < MIN_LENGTH or slug.startswith("xn-"):
        slug = f"agent-{slug}".strip("-")
    return slug


def with_suffix(slug: str, number: int) -> str:
    """``acme`` and 2 make ``acme-2``, shortened where the limit asks for it."""
    tail = f"-{number}"
    return slug[: MAX_LENGTH - len(tail)].rstrip("-") + tail
