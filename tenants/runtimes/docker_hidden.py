"""What agents in containers take without a name: seen in the host's own ``/proc`` where that can be, else by a helper
among the processes of each container."""

from __future__ import annotations

import os
from collections.abc import Sequence
from functools import partial

from tenants.runtimes import loose_files
from tenants.runtimes.base import Holder
from tenants.runtimes.docker_engine import Engine
from tenants.runtimes.docker_helper import Helper, run_helper, script_of
from zcplatform.lib.contained import contained

LOOK = script_of(loose_files)


def hidden(engine: Engine, holders: Sequence[Holder]) -> dict[int, int]:
    """Bytes by uid; absent of whom it can't be told."""
    there = {holder: device for holder in holders if (device := _device(holder)) is not None}
    if engine.is_local and os.geteuid() == 0:
        by_device = {
            device: loose_files.held({h.uid for h, d in there.items() if d == device}, device)
            for device in set(there.values())
        }
        return {holder.uid: by_device[device][holder.uid] for holder, device in there.items()}
    found = {
        h.uid: contained(partial(_ask, engine, h, d), None, what="open files can't be seen", uid=h.uid)
        for h, d in there.items()
        if h.handle
    }
    return {uid: size for uid, size in found.items() if size is not None}


def _device(holder: Holder) -> int | None:
    try:
        return holder.folder.stat().st_dev
    except OSError:
        return None


def _ask(engine: Engine, holder: Holder, device: int) -> int | None:
    """As the agent's own uid, which may look at its processes and has no more rights than they have."""
    if holder.handle is None:
        return None
    user = f"{holder.uid}:{holder.uid}"
    return int(run_helper(engine, Helper(LOOK, (str(device), str(holder.uid)), user=user, beside=holder.handle.id)))
