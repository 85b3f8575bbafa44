"""``python -m zcplatform`` does the same as ``manage.py`` from any folder."""

from zcplatform.cli import main

main()
