#!/usr/bin/env python
"""Runs a management command: ``python manage.py help``."""

from zcplatform.cli import main

if __name__ == "__main__":
    main()
