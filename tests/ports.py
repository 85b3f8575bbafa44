"""Ports for the agents of this test run: two runs on one machine stay out of each other's way."""

import os

_FIRST = 22_600 + os.getpid() % 40 * 200
IN_MEMORY = (_FIRST, _FIRST + 99)
PROCESSES = (_FIRST + 100, _FIRST + 149)
CONTAINERS = (_FIRST + 150, _FIRST + 199)
