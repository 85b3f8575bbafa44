"""Every error the platform raises on purpose, in two families, each with a stable machine-readable type.

``RequestError``: the caller can mend it. ``FaultError``: ours, or something behind us. Both are mapped once
to the envelope ``{"error": {"type", "message", "details", "request_id"}}`` by ``zcplatform.lib.envelope``.
``permanent`` on an error decides whether a run fails (True) or waits and tries again (False).
"""

from __future__ import annotations

from typing import Any, ClassVar


class ZCError(Exception):
    """Base of both families; never raised itself."""

    status: ClassVar[int] = 500
    default_type: ClassVar[str] = "internal_error"
    permanent: bool = True

    def __init__(self, message: str, *, type: str | None = None, **details: Any) -> None:
        super().__init__(message)
        self.message = message
        self.type = type or self.default_type
        self.details = details


class RequestError(ZCError):
    """The caller's error: something in the request has to change."""

    status = 400
    default_type = "bad_request"


class Unauthenticated(RequestError):
    status = 401
    default_type = "unauthenticated"


class Forbidden(RequestError):
    """The role does not allow it, or the plan does not (type ``plan_limit``)."""

    status = 403
    default_type = "forbidden"


class NotFound(RequestError):
    """Absent, or outside the caller's tenants: the same answer for both."""

    status = 404
    default_type = "not_found"

    def __init__(self, message: str = "Not found.", *, type: str | None = None, **details: Any) -> None:
        super().__init__(message, type=type, **details)


class Conflict(RequestError):
    """Wrong state for this act, or a duplicate."""

    status = 409
    default_type = "conflict"


class TooLarge(RequestError):
    status = 413
    default_type = "too_large"


class InvalidField(RequestError):
    """A well-formed request with a value that can't be accepted; ``details['field']`` names it."""

    status = 422
    default_type = "invalid_field"


class RateLimited(RequestError):
    """Too many; ``details['retry_after']`` is in seconds."""

    status = 429
    default_type = "rate_limited"


class FaultError(ZCError):
    """Our error, or that of a system behind us."""

    status = 500
    default_type = "internal_error"


class Misconfigured(FaultError):
    """A setting, key or file of the platform is missing or wrong; an operator has to mend it."""

    default_type = "misconfigured"


class VaultError(FaultError):
    """A secret can't be opened; never carries plaintext or ciphertext."""

    default_type = "vault_error"


class BadUpstream(FaultError):
    """What is behind us answered, but wrongly."""

    status = 502
    default_type = "bad_upstream"


class DependencyDown(FaultError):
    """Something we depend on does not answer; the act may be tried again as it is."""

    status = 503
    default_type = "dependency_down"
    permanent = False


class DependencyTimeout(DependencyDown):
    """The same, but after a time limit: the act may have been applied."""

    status = 504
    default_type = "dependency_timeout"


class Overloaded(DependencyDown):
    """There is more to do than can be done, and nothing of this was; ``details['retry_after']`` is in seconds."""

    default_type = "overloaded"

    def __init__(self) -> None:
        super().__init__("The platform is busy. Nothing was done; try again in a moment.", retry_after=2)


class RunFailed(FaultError):
    """A step ended for good; ``type`` is the tenant's ``reason``."""

    default_type = "run_failed"
