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
_FAMILIES = (*_MESSAGES, "zeroclaw_tokens_")
LINES_MAX, LINE_MAX = 2_000, 2_000
"""Of what concerns us; an agent that tells more tells nothing. A fleet's answers are read in one loop, and the time
that reading one takes is everybody's."""
Wanted = Callable[[str], bool]


def counters(text: str) -> Counters:
    """The counts in a Prometheus exposition, summed over labels; None where there is no sample ("no data").

    A text that can't be parsed holds no data either, nor does a sum that is no number.
    """
    try:
        samples = [sample for family in text_string_to_metric_families(_ours(text)) for sample in family.samples]
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


def _ours(text: str) -> str:
    """The samples that are counted; ValueError where they are too many or too long."""
    lines = [line for line in text.split("\n") if line.lstrip().startswith(_FAMILIES)]
    if len(lines) > LINES_MAX or any(len(line) > LINE_MAX for line in lines):
        raise ValueError("more than an agent has to tell")
    return "\n".join([*lines, ""])


def _any(direction: str) -> bool:
    return True


def _first(samples: Iterable[Sample], *sources: tuple[str, Wanted]) -> int | None:
    for name, wanted in sources:
        values = [s.value for s in samples if s.name == name and wanted(s.labels.get("direction", "").lower())]
        values = [value for value in values if isfinite(value) and value >= 0]
        if values:
            total = sum(values)
            return int(total) if isfinite(total) else None
    return None
