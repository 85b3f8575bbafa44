"""The registry of metrics. A metric reads rows and nothing else: an alert must not depend on what it warns of."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from enum import StrEnum

from zcplatform.lib.errors import InvalidField


class Scope(StrEnum):
    PLATFORM = "platform"
    TENANT = "tenant"


@dataclass(frozen=True)
class Reading:
    """One value now. ``subject`` tells it from the metric's others and is stable; ``label`` is for people.

    ``value`` is None when it can't be told (a snapshot too old, an engine that does not answer): an alert then stays
    as it is. A subject that is not in the readings at all is one to which the metric does not apply: its alert ends.
    ``which``: the slugs of the tenants that ``value`` counts, in order.
    """

    subject: str
    value: float | None
    label: str = ""
    tenant: int | None = None
    which: tuple[str, ...] = ()


@dataclass(frozen=True)
class Metric:
    """``read`` gives the values of every subject in a constant number of queries."""

    name: str
    label: str
    unit: str
    scope: Scope
    read: Callable[[], Iterable[Reading]]


_metrics: dict[str, Metric] = {}


def metric(
    name: str, label: str, unit: str, scope: Scope
) -> Callable[[Callable[[], Iterable[Reading]]], Callable[[], Iterable[Reading]]]:
    """Register the function as a metric."""

    def register(read: Callable[[], Iterable[Reading]]) -> Callable[[], Iterable[Reading]]:
        _metrics[name] = Metric(name, label, unit, scope, read)
        return read

    return register


def known() -> list[Metric]:
    """Every metric, by name."""
    return [_metrics[name] for name in sorted(_metrics)]


def named(name: str) -> Metric:
    """The metric; InvalidField ``unknown_metric``."""
    if name not in _metrics:
        raise InvalidField("There is no such metric.", type="unknown_metric", field="metric", known=sorted(_metrics))
    return _metrics[name]
