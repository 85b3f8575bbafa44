"""Why an archive is refused."""

from __future__ import annotations

from zcplatform.lib.errors import RequestError


class ArchiveRefused(RequestError):
    """Nothing was changed. ``type`` says why:

    ``archive_missing``, ``archive_truncated``, ``archive_damaged``, ``archive_member`` (a link, a device, another name,
    a duplicate), ``archive_bomb``, ``archive_newer``, ``archive_signature``, ``archive_database`` (made on another kind of
    database), ``archive_database_damaged``, ``archive_settings``; of the keys those of the vault (``vault_key_foreign``,
    ``vault_passphrase_wrong``, ...).
    """

    status = 422
    default_type = "archive_damaged"
