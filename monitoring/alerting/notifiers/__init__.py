"""The ways to tell somebody, by name: a file each, and a line in ``NOTIFIERS`` of the settings."""

from __future__ import annotations

from functools import cache

from django.conf import settings
from django.utils.module_loading import import_string

from monitoring.alerting.models import Notifier
from monitoring.alerting.notifiers.base import NotifierKind
from tenants import fields
from tenants.fields import Field
from zcplatform.lib.errors import InvalidField


def notifier_kind(name: str) -> NotifierKind:
    """InvalidField ``unknown_notifier``."""
    path = settings.NOTIFIERS.get(name)
    if path is None:
        known = sorted(settings.NOTIFIERS)
        raise InvalidField("There is no such kind of notifier.", type="unknown_notifier", field="kind", known=known)
    return _made(path)


def origin_of(notifier: Notifier) -> str:
    """Where the notifier's secret goes, or what is signed with it; empty where nobody chooses that."""
    return fields.origin_of(notifier_kind(notifier.kind).fields, notifier.config)


def is_hidden(notifier: Notifier) -> bool:
    """Whether its secret was entered for another place than the present one: then it is not used."""
    return notifier.secret is not None and notifier.secret.origin != origin_of(notifier)


def known_kinds() -> list[NotifierKind]:
    """Every kind, in the order of the settings."""
    return [notifier_kind(name) for name in settings.NOTIFIERS]


def secret_field(kind: NotifierKind) -> Field | None:
    """The field of ``kind`` whose value lies in the vault."""
    return next((field for field in kind.fields if field.secret), None)


@cache
def _made(path: str) -> NotifierKind:
    return import_string(path)()
