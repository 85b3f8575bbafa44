"""The entry of one queue cluster: ``python -m zcplatform.cluster runs``.

It differs from ``manage.py qcluster`` in two ways: its processes end when the one above them ends (django-q2's own
live on as orphans), and its workers say on a board when they begin and end a task.
"""

from __future__ import annotations

import gc
import os
import sys

from zcplatform import leash


def main(name: str) -> None:
    """Run the cluster ``name`` until SIGTERM; then it finishes what it does and ends."""
    os.environ["Q_CLUSTER_NAME"] = name
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "zcplatform.settings")
    import django

    django.setup()
    from django.core.management import call_command
    from django.utils.module_loading import autodiscover_modules

    from zcplatform.board import Board

    autodiscover_modules("tasks")  # here and not in each of its forks, so that they share the memory
    gc.collect()
    gc.freeze()
    leash.hold_children()
    Board(name).follow()
    take_over(name)
    call_command("qcluster")


def take_over(name: str) -> None:
    """What the cluster before this one had taken up and not finished is free at once, not when its time has run out:
    there is one cluster of a name at a time. A task that had been done is done again, which every task stands."""
    from django.db import DatabaseError, connections
    from django.utils import timezone
    from django_q.models import OrmQ

    try:
        now = timezone.now()
        OrmQ.objects.filter(key=name, lock__gt=now).update(lock=now)
    except DatabaseError:
        pass  # busy, or full: then they run out
    connections.close_all()


if __name__ == "__main__":
    main(sys.argv[1])
