"""Settings of the test suite: a home of its own, keys made afresh, an installation id that nobody else has.

The first process makes the home and removes it when it ends; the processes that it starts find it in
``ZC_TEST_HOME``. Each worker of a parallel run makes one of its own, below that of the process that started it, which
removes what is left when a worker was killed.
"""

import atexit
import os
import shutil
import tempfile
from pathlib import Path

from tests import slot

if slot.ANEW:
    _above = os.environ.get("ZC_TEST_HOME") if slot.worker() else None
    os.environ["ZC_TEST_HOME"] = tempfile.mkdtemp(prefix=f"{slot.worker()}-" if _above else "zct-", dir=_above)
    os.environ["ZC_TEST_RUN"] = _above or os.environ["ZC_TEST_HOME"]  # what the workers of a run share
    if os.environ.get("ZCPLATFORM_DATABASE_URL", "sqlite:").startswith("sqlite:"):
        os.environ["ZCPLATFORM_DATABASE_URL"] = f"sqlite:///{os.environ['ZC_TEST_HOME']}/zcplatform.db"

    def _remove_home(maker: int = os.getpid()) -> None:
        if os.getpid() == maker:  # a forked child must not remove it under its parent
            shutil.rmtree(os.environ["ZC_TEST_HOME"], ignore_errors=True)

    atexit.register(_remove_home)

_home = Path(os.environ["ZC_TEST_HOME"])
os.environ["ZCPLATFORM_HOME"] = str(_home)
os.environ["ZCPLATFORM_CONFIG"] = str(_home / "platform.toml")

from zcplatform import keys  # noqa: E402

keys.create_missing(_home / "keys")

from zcplatform.settings import *  # noqa: E402, F403
from zcplatform.settings import DATABASES, INSTANCE, MIDDLEWARE  # noqa: E402

if DATABASES["default"]["ENGINE"].endswith("sqlite3"):
    # A real file, so that threads and worker processes see the same database as the test.
    DATABASES["default"]["TEST"] = {"NAME": str(_home / "test.db")}
MIDDLEWARE = [m for m in MIDDLEWARE if "whitenoise" not in m]
PORT_RANGE, UID_RANGE = slot.ANY, slot.UIDS
CONTAINER_PREFIX = f"zct-{INSTANCE[:6]}"  # two suites may run on one engine
SUBNET_POOL = slot.NETWORKS
