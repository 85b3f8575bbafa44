"""Settings of the test suite: a home of its own, keys made afresh, an installation id that nobody else has.

The first process makes the home and removes it when it ends; the processes that it starts find it in
``ZC_TEST_HOME``.
"""

import atexit
import os
import shutil
import tempfile
from pathlib import Path

if "ZC_TEST_HOME" not in os.environ:
    os.environ["ZC_TEST_HOME"] = tempfile.mkdtemp(prefix="zct-")

    def _remove_home(maker: int = os.getpid()) -> None:
        if os.getpid() == maker:  # a forked child must not remove it under its parent
            shutil.rmtree(os.environ["ZC_TEST_HOME"], ignore_errors=True)

    atexit.register(_remove_home)

_home = Path(os.environ["ZC_TEST_HOME"])
os.environ["ZCPLATFORM_HOME"] = str(_home)
os.environ["ZCPLATFORM_CONFIG"] = str(_home / "platform.toml")
os.environ.setdefault("ZCPLATFORM_DATABASE_URL", f"sqlite:///{_home / 'zcplatform.db'}")

from zcplatform import keys  # noqa: E402

keys.create_missing(_home / "keys")

from zcplatform.settings import *  # noqa: E402, F403
from zcplatform.settings import DATABASES, INSTANCE, MIDDLEWARE  # noqa: E402

if DATABASES["default"]["ENGINE"].endswith("sqlite3"):
    # A real file, so that threads and worker processes see the same database as the test.
    DATABASES["default"]["TEST"] = {"NAME": str(_home / "test.db")}
MIDDLEWARE = [m for m in MIDDLEWARE if "whitenoise" not in m]
PORT_RANGE = (21_001, 22_500)
CONTAINER_PREFIX = f"zct-{INSTANCE[:6]}"  # two suites may run on one engine
SUBNET_POOL = "10.214.0.0/16"
