"""What the host itself uses: CPU and memory from /proc, and the fullest of the disks that matter."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

from django.conf import settings

from monitoring.models import HostSnapshot

PROC = Path("/proc")
ENGINE_ROOT = Path("/var/lib/docker")
TICK_US = 1_000_000 // os.sysconf("SC_CLK_TCK")


def snapshot(ts: int, before: HostSnapshot | None) -> HostSnapshot:
    """The host now; ``cpu_mpct`` is None for the first one after the host was started."""
    busy, total = cpu_us()
    used, memory = memory_bytes()
    disk_used, disk = fullest_disk()
    return HostSnapshot(
        ts=ts,
        cpu_mpct=_share(before, busy, total),
        mem_bytes=used,
        mem_total=memory,
        disk_bytes=disk_used,
        disk_total=disk,
        cpu_busy_us=busy,
        cpu_total_us=total,
    )


def _share(before: HostSnapshot | None, busy: int, total: int) -> int | None:
    if before is None or before.cpu_total_us is None or before.cpu_busy_us is None or total <= before.cpu_total_us:
        return None
    return max(0, 100_000 * (busy - before.cpu_busy_us) // (total - before.cpu_total_us))


def cpu_us(proc: Path = PROC) -> tuple[int, int]:
    """Microseconds that all cores were busy, and that passed for them, since the host was started."""
    user, nice, system, idle, iowait, irq, softirq, steal = map(int, (proc / "stat").read_text().split()[1:9])
    busy = user + nice + system + irq + softirq + steal
    return busy * TICK_US, (busy + idle + iowait) * TICK_US


def memory_bytes(proc: Path = PROC) -> tuple[int, int]:
    """Used and total; used is what programs could not have."""
    lines = (line.partition(":") for line in (proc / "meminfo").read_text().splitlines())
    facts = {name: int(rest.split()[0]) * 1_024 for name, _, rest in lines}
    return facts["MemTotal"] - facts["MemAvailable"], facts["MemTotal"]


def fullest_disk() -> tuple[int, int]:
    """Used and total of the file system with the largest share in use; what only root may fill counts as used."""
    places = [place for place in (Path(settings.HOME), ENGINE_ROOT) if place.exists()]
    disks = [shutil.disk_usage(place) for place in places]
    used, total = max(((d.total - d.free, d.total) for d in disks), key=lambda d: d[0] / max(1, d[1]))
    return used, total
