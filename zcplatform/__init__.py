"""zcplatform hosts one isolated AI agent per customer. The version is read from CHANGELOG.md's newest heading."""

__version__ = "0.1.0"
