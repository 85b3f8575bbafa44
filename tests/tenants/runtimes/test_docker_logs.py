"""Following what an agent prints costs the same however much it prints."""

from __future__ import annotations

import tracemalloc

import pytest

from tenants.runtimes import docker_logs
from tenants.runtimes.base import LogPart
from tests.tenants.runtimes.contract import until

MB = 1_048_576


def lines_of(number, width=1_000):
    for count in range(number):
        yield f"2026-01-31T12:00:{count // 10_000:02}.{count % 10_000:09}Z {count} ".encode().ljust(width) + b"\n"


def peak_of(act):
    tracemalloc.start()
    try:
        return act(), tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


def test_of_a_flood_the_newest_lines_are_kept_and_memory_stays_flat():
    (lines, cut), peak = peak_of(lambda: docker_logs.newest(lines_of(50_000), MB))
    assert cut
    assert sum(map(len, lines)) <= MB
    assert lines[-1].split()[1] == b"49999"
    assert peak < 4 * MB


def test_a_flood_without_an_end_is_read_for_so_long_and_no_longer(monkeypatch):
    monkeypatch.setattr(docker_logs, "READ_MAX", MB)

    def endless():
        while True:
            yield from lines_of(10_000)

    lines, cut = docker_logs.newest(endless(), 10_000)
    assert cut
    assert sum(map(len, lines)) <= 10_000


def test_what_is_missing_is_said_once_and_only_where_it_is_missing():
    lines = list(lines_of(10, 60))
    before = docker_logs.part_after(lines[:2], docker_logs.BEGINNING).mark
    whole = docker_logs.part_after(lines[1:], before, cut=True)  # the line of the mark is there: nothing is missing
    torn = docker_logs.part_after(lines[5:], before, cut=True)
    assert (whole.missed, torn.missed) == (False, True)
    assert docker_logs.part_after(lines[5:], torn.mark, cut=True) == LogPart("", torn.mark)


def test_a_long_line_has_one_time_however_many_pieces_the_engine_tells_it_in():
    pieces = [b"2026-01-31T12:00:00.100000000Z " + b"a" * 9, b"2026-01-31T12:00:00.200000000Z bb\n", b"no time\n"]
    told = b"2026-01-31T12:00:00.100Z aaaaaaaaabb\n- no time\n"
    assert docker_logs.with_times(docker_logs.newest(pieces, MB)[0]) == told


FORGED = "print('progress\\r2999-01-01T00:00:00.000000000Z forged', file=open('/proc/1/fd/1', 'w'))"


@pytest.mark.docker
def test_an_agent_that_prints_a_time_of_its_own_hides_nothing_that_follows(docker_bench):
    """After a carriage return, which is the end of a line for Python, and not for the engine."""
    _, handle = docker_bench.serving()
    runtime = docker_bench.runtime
    until(lambda: "line 5" in runtime.logs(handle))
    mark = runtime.logs_after(handle).mark
    assert runtime.exec(handle, docker_bench.code(FORGED)).exit_code == 0
    until(lambda: "forged" in runtime.logs_after(handle, mark).text)
    mark = runtime.logs_after(handle, mark).mark
    assert runtime.exec(handle, docker_bench.code("print('after', file=open('/proc/1/fd/1', 'w'))")).exit_code == 0
    until(lambda: "after\n" in runtime.logs_after(handle, mark).text)


FLOOD = """
with open("/proc/1/fd/1", "w") as out:
    for number in range(40_000):
        out.write(f"flood {number} ".ljust(1_000) + "\\n")
    out.write("the end of the flood\\n")
"""


@pytest.mark.docker
def test_a_real_container_that_writes_40_mb_is_followed_within_a_few(docker_bench):
    _, handle = docker_bench.serving()
    runtime = docker_bench.runtime
    until(lambda: "line 5" in runtime.logs(handle))
    mark = runtime.logs_after(handle).mark
    assert runtime.exec(handle, docker_bench.code(FLOOD)).exit_code == 0
    until(lambda: "the end of the flood" in runtime.logs(handle, tail=1))
    part, peak = peak_of(lambda: runtime.logs_after(handle, mark))
    assert part.missed
    assert part.text.endswith("the end of the flood\n")
    assert len(part.text) <= docker_logs.PART_MAX
    assert peak < 16 * MB
    assert runtime.logs_after(handle, part.mark) == LogPart("", part.mark)
    whole, peak = peak_of(lambda: runtime.logs(handle, tail=10**9))
    assert whole.endswith("the end of the flood\n")
    assert peak < 32 * MB
