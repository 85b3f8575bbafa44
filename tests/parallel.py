"""Which tests the workers of a parallel run play together, and in which order.

A file is played by one worker, so that what it sets up for all its tests is set up once. Files that share a part of the
machine of which there is one go to one worker too; files whose tests each start an installation are dealt out test by
test. What takes longest comes first, so that no worker is left with it at the end.
"""

from __future__ import annotations

import zlib
from typing import Any

from xdist.scheduler import LoadScopeScheduling

# The host's routes and the first rules of its packet filter: two that change them would undo each other's.
THE_HOSTS_NETWORK = ("tests/tenants/egress/test_probes.py", "tests/tenants/agents/test_real_agents.py")
THE_HOSTS_NETWORK += ("tests/tenants/egress/test_firewall.py", "tests/zcplatform/test_engine_proxy.py")

# Their many tests share a world that is soon made: it is made for each of so many parts.
IN_PARTS = {"tests/faults/test_matrix.py": 8}
# What begins first: in the order of their time, longest first.
COSTLY = (
    *THE_HOSTS_NETWORK,
    *IN_PARTS,
    "tests/zcplatform/test_upgrade.py",
    "tests/backups/test_restore.py",
    "tests/browser/test_stories.py",
    "tests/faults/test_machine.py",
    "tests/backups/test_backup.py",
    "tests/browser/test_looks.py",
    "tests/test_story.py",
    "tests/zcplatform/test_supervisor.py",
    "tests/backups/test_refused.py",
    "tests/zcplatform/test_served_limits.py",
    "tests/zcplatform/test_demo.py",
    "tests/api/test_schemathesis.py",
)
# Each of their tests stands alone: it sets up an installation of its own, or copies one.
DEALT_OUT = (
    "tests/zcplatform/test_upgrade.py",
    "tests/zcplatform/test_served_limits.py",
    "tests/api/test_schemathesis.py",
)


def file_of(nodeid: str) -> str:
    return nodeid.partition("::")[0]


def unit(nodeid: str) -> str:
    """What this test is played with; the same text means the same worker."""
    file = file_of(nodeid)
    if file in THE_HOSTS_NETWORK:
        return "the host's network"
    if file in IN_PARTS:
        return f"{file} {zlib.crc32(nodeid.encode()) % IN_PARTS[file]}"
    return nodeid if file in DEALT_OUT else file


def place(nodeid: str) -> int:
    """By which tests are sorted, those of one place staying as they were."""
    file = file_of(nodeid)
    return COSTLY.index(file) if file in COSTLY else len(COSTLY)


class Scheduling(LoadScopeScheduling):
    """Deals out units instead of modules and classes, in the order in which they were collected."""

    def __init__(self, config: Any, log: Any) -> None:
        super().__init__(config, log)
        config.option.loadscopereorder = False

    def _split_scope(self, nodeid: str) -> str:
        return unit(nodeid)
