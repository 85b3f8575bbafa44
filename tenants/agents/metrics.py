"""Reads what agents count. Two families of names exist for the same things: ZeroClaw's own and that of the documents.

An agent that serves both is counted once: the first family that has a sample wins.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from math import isfinite

from prometheus_client.parser import text_string_to_metric_families
from prometheus_client.samples import Sample

from tenants.agents.base import Counters

_IN = frozenset({"in", "inbound", "input", "received", "incoming", ""})
_OUT = frozenset({"out", "outbound", "output", "sent", "outgoing"})
_MESSAGES = ("zeroclaw_channel_messages_total", "zeroclaw_messages_total")
Wanted = Callable[[str], bool]


def counters(text: str) -> Counters:
    """The counts in a Prometheus exposition, summed over labels; None where there is no sample ("no data").

    A text that can't be parsed holds no data either.
    """
    try:
        samples = [sample for family in text_string_to_metric_families(text) for sample in family.samples]
    except ValueError:
        return Counters()
    return Counters(
        messages_in=_first(samples, *((name, _IN.__contains__) for name in _MESSAGES)),
        messages_out=_first(samples, *((name, _OUT.__contains__) for name in _MESSAGES)),
        tokens_in=_first(samples, ("zeroclaw_tokens_input_total", _any), ("zeroclaw_tokens_total", _IN.__contains__)),
        tokens_out=_first(
            samples, ("zeroclaw_tokens_output_total", _any), ("zeroclaw_tokens_total", _OUT.__contains__)
        ),
    )


def _any(direction: str) -> bool:
    return True


def _first(samples: Iterable[Sample], *sources: tuple[str, Wanted]) -> int | None:
    for name, wanted in sources:
        values = [s.value for s in samples if s.name == name and wanted(s.labels.get("direction", "").lower())]
        values = [value for value in values if isfinite(value) and value >= 0]
        if values:
            return int(sum(values))
    return None
