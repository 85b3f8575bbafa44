"""Authenticator apps as django-otp keeps them, less what would stand in the database as a secret."""

from __future__ import annotations

from django_otp.plugins.otp_totp.models import TOTPDevice

from accounts.sealing import keyed_hash


class AppDevice(TOTPDevice):
    """An authenticator app. Its ``key`` is no secret but the salt of one."""

    class Meta:
        proxy = True
        app_label = "accounts"

    @property
    def bin_key(self) -> bytes:
        return keyed_hash("totp", str(self.user.public_id), self.key)[:20]

    def get_throttle_factor(self) -> int:
        """django-otp's own delays double without end, so that a stranger could lock a user out; ``second_factor`` has
        ``BUDGETS`` instead."""
        return 0
