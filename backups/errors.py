"""Why an archive is refused."""

from __future__ import annotations

from zcplatform.lib.errors import RequestError


class ArchiveRefused(RequestError):
    """Nothing was changed. ``type`` says why: ``archive_missing``, ``archive_truncated``, ``archive_damaged``,
    ``archive_member`` (a link, a device, another name, a duplicate), ``archive_bomb``, ``archive_newer``,
    ``archive_signature``, ``archive_database`` (of another kind), ``archive_database_damaged``, ``archive_settings``.
    """

    status = 422
    default_type = "archive_damaged"
