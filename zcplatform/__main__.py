"""``python -m zcplatform`` does the same as ``manage.py`` from any folder. Only for this package itself has Python
looked there; nothing else is taken from it."""

import sys
from pathlib import Path

if not sys.flags.safe_path:
    sys.path[0] = str(Path(__file__).resolve().parent.parent)

from zcplatform.cli import main

main()
