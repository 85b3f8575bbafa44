"""The accounts' part of the JSON API. ``routers`` are mounted by ``zcplatform.api``."""
