"""zcplatform hosts one isolated AI agent per customer.

``__version__`` is CHANGELOG.md's newest heading; a test holds the two together, so that an installed package
needs no file beside it.
"""

__version__ = "0.2.0"
