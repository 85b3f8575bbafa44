"""People, what they may do, and the tokens that let them in."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from typing import Any, ClassVar

from django.conf import settings
from django.contrib.auth.base_user import AbstractBaseUser, BaseUserManager
from django.db import models
from django.utils.crypto import salted_hmac

from accounts.clients import client_name
from accounts.devices import AppDevice  # noqa: F401 - Django looks for models here
from zcplatform.lib import clock
from zcplatform.lib.actors import Actor


class UserManager(BaseUserManager["User"]):
    def get_by_natural_key(self, username: str | None) -> User:
        from accounts.emails import normalise_email

        return self.get(email=normalise_email(username or ""))

    def create_user(self, email: str, **fields: Any) -> User:
        """Create a user without a password: people come in by a link or a code."""
        from accounts.emails import normalise_email

        user = self.model(email=normalise_email(email), **fields)
        user.set_unusable_password()
        user.save(using=self._db)
        return user

    def create_superuser(self, email: str, **fields: Any) -> User:
        return self.create_user(email, is_superuser=True, **fields)


class User(AbstractBaseUser):
    """A person, known by a normalised e-mail address. ``is_superuser`` is the platform's super-admin."""

    public_id = models.UUIDField(default=uuid.uuid4, unique=True, editable=False)
    email = models.EmailField(unique=True)
    name = models.CharField(max_length=100, blank=True)
    is_active = models.BooleanField(default=True)
    is_superuser = models.BooleanField("super-admin", default=False)
    created_at = models.DateTimeField(default=clock.now, editable=False)
    # Raised whenever the account becomes something else (see accounts.services): what was handed out before is void.
    stamp = models.PositiveIntegerField(default=0, editable=False)
    second_factor_at = models.DateTimeField("second factor since", null=True, editable=False)

    objects: ClassVar[UserManager] = UserManager()
    USERNAME_FIELD = "email"
    REQUIRED_FIELDS: ClassVar[list[str]] = []

    class Meta:
        db_table = "users"

    def __str__(self) -> str:
        return self.email

    @property
    def is_staff(self) -> bool:
        return self.is_superuser

    # What Django's admin asks. There are no permissions per model: a super-admin has all, others have none there.
    def has_perm(self, perm: str, obj: Any = None) -> bool:
        return self.is_active and self.is_superuser

    def has_module_perms(self, app_label: str) -> bool:
        return self.is_active and self.is_superuser

    def get_session_auth_hash(self) -> str:
        """Django ends a session whose hash differs from this one, so the stamp ends sessions too."""
        return self._session_hash()

    def get_session_auth_fallback_hash(self) -> Iterator[str]:
        for key in settings.SECRET_KEY_FALLBACKS:
            yield self._session_hash(secret=key)

    def _session_hash(self, **key: str) -> str:
        return salted_hmac("accounts.session", f"{self.public_id}:{self.stamp}", algorithm="sha256", **key).hexdigest()

    def as_actor(self, *, ip: str = "", request_id: str = "") -> Actor:
        return Actor(
            label=self.email,
            user_id=self.pk,
            public_id=str(self.public_id),
            email=self.email,
            unrestricted=self.is_superuser and self.is_active,
            ip=ip,
            request_id=request_id,
        )


class Role(models.Model):
    """A custom role: a name and its abilities. The built-in four stand in ``accounts.permissions``."""

    name = models.SlugField(max_length=40, unique=True)
    label = models.CharField(max_length=80)
    abilities = models.JSONField(default=list)

    class Meta:
        db_table = "roles"

    def __str__(self) -> str:
        return self.label


class LoginLink(models.Model):
    """A single-use way in, stored hashed; the token itself is shown once, to whoever made it."""

    user = models.ForeignKey(User, on_delete=models.CASCADE, related_name="login_links")
    token_hash = models.CharField(max_length=64, unique=True)
    created_at = models.DateTimeField(default=clock.now)
    expires_at = models.DateTimeField()
    used_at = models.DateTimeField(null=True, blank=True)

    class Meta:
        db_table = "login_links"
        indexes = [models.Index(fields=["expires_at"], name="login_link_expiry")]

    def __str__(self) -> str:
        return f"login link of {self.user_id}"


class IdempotencyKey(models.Model):
    """The remembered answer to a write, so that a client that did not hear it may ask again."""

    scope = models.CharField(max_length=200)
    key = models.CharField(max_length=128)
    fingerprint = models.CharField(max_length=64)
    status = models.PositiveSmallIntegerField(null=True)
    response = models.JSONField(null=True)
    grants = models.JSONField(default=list)
    created_at = models.DateTimeField(default=clock.now, db_index=True)

    class Meta:
        db_table = "idempotency_keys"
        constraints = [models.UniqueConstraint(fields=["scope", "key"], name="idempotency_scope_key")]

    def __str__(self) -> str:
        return self.key


class Login(models.Model):
    """One way in that is open: a browser's session or a family of refresh tokens. Every request asks for its row.

    ``verified_at`` is when its second factor was last shown; ``session_key`` is empty for an API client's.
    """

    public_id = models.UUIDField(default=uuid.uuid4, unique=True, editable=False)
    user = models.ForeignKey(User, on_delete=models.CASCADE, related_name="logins")
    session_key = models.CharField(max_length=40, blank=True, db_index=True)
    ip = models.GenericIPAddressField(null=True)
    user_agent = models.CharField(max_length=200, blank=True)
    verified_at = models.DateTimeField(null=True)
    created_at = models.DateTimeField(default=clock.now)
    last_used_at = models.DateTimeField(default=clock.now)
    expires_at = models.DateTimeField(db_index=True)
    revoked_at = models.DateTimeField(null=True)

    class Meta:
        db_table = "logins"

    def __str__(self) -> str:
        return f"login {self.public_id}"

    @property
    def client(self) -> str:
        """The program that logged in, by what it says of itself."""
        return client_name(self.user_agent)


class RefreshToken(models.Model):
    """One token of a login's family: good for one exchange. A second use of it ends the login."""

    login = models.ForeignKey(Login, on_delete=models.CASCADE, related_name="refresh_tokens")
    token_hash = models.CharField(max_length=64, unique=True)
    created_at = models.DateTimeField(default=clock.now)
    used_at = models.DateTimeField(null=True)

    class Meta:
        db_table = "refresh_tokens"

    def __str__(self) -> str:
        return f"refresh token of {self.login_id}"


class ApiKey(models.Model):
    """A person's bearer for programs. The value is shown once; ``prefix`` tells keys apart.

    ``stamp`` is the user's when the key was made: a key does not outlive a change of what its user is.
    """

    public_id = models.UUIDField(default=uuid.uuid4, unique=True, editable=False)
    user = models.ForeignKey(User, on_delete=models.CASCADE, related_name="api_keys")
    name = models.CharField(max_length=80)
    prefix = models.CharField(max_length=12)
    key_hash = models.CharField(max_length=64, unique=True)
    scopes = models.JSONField(default=list)
    stamp = models.PositiveIntegerField()
    created_at = models.DateTimeField(default=clock.now)
    expires_at = models.DateTimeField()
    last_used_at = models.DateTimeField(null=True)
    revoked_at = models.DateTimeField(null=True)

    class Meta:
        db_table = "api_keys"

    def __str__(self) -> str:
        return self.name


class RateWindow(models.Model):
    """What was let through for one key of a limit: pairs of a Unix time and a number."""

    key = models.CharField(max_length=200, unique=True)
    hits = models.JSONField(default=list)
    expires_at = models.DateTimeField(db_index=True, default=clock.now)

    class Meta:
        db_table = "rate_windows"

    def __str__(self) -> str:
        return self.key


class LoginCode(models.Model):
    """One login code, whether or not its address has an account, bound to whoever asked for it: by a handle, and for a
    client that keeps none by its network. Tries are counted for each of the two, so that neither spends the other's.

    ``crowd`` marks the long code of an address that many ask for at once; it is bound to nobody."""

    email = models.EmailField(db_index=True)
    handle_hash = models.CharField(max_length=64, unique=True)
    network = models.CharField(max_length=64, blank=True)
    crowd = models.BooleanField(default=False)
    code_hash = models.CharField(max_length=64)
    attempts = models.PositiveSmallIntegerField(default=0)
    attempts_of_network = models.PositiveSmallIntegerField(default=0)
    created_at = models.DateTimeField(default=clock.now)
    expires_at = models.DateTimeField(db_index=True)
    used_at = models.DateTimeField(null=True)

    class Meta:
        db_table = "login_codes"

    def __str__(self) -> str:
        return f"login code of {self.email}"


class Urgency(models.IntegerChoices):
    """Which mail goes first: somebody waits for a code in front of a page, and nobody for a test message."""

    CODE = 0
    INVITATION = 20
    ALERT = 30
    TEST = 40


class Mail(models.Model):
    """One mail that waits to be sent, or was. The text is sealed, and gone once the mail is on its way."""

    recipient = models.EmailField()
    urgency = models.PositiveSmallIntegerField(choices=Urgency.choices, default=Urgency.ALERT)
    subject = models.CharField(max_length=200)
    sealed_text = models.TextField()
    # A mail about logging in goes out only when the address has an account: who asks for a code is not told.
    needs_account = models.BooleanField(default=False)
    attempts = models.PositiveSmallIntegerField(default=0)
    busy = models.PositiveSmallIntegerField(default=0)  # of the attempts: those that the recipient's side put off
    error = models.CharField(max_length=200, blank=True)
    created_at = models.DateTimeField(default=clock.now)
    next_attempt_at = models.DateTimeField(default=clock.now)
    expires_at = models.DateTimeField()
    sent_at = models.DateTimeField(null=True)
    failed_at = models.DateTimeField(null=True)
    lease_until = models.DateTimeField(null=True)
    lease_owner = models.CharField(max_length=80, blank=True)
    epoch = models.PositiveIntegerField(default=0)

    class Meta:
        db_table = "mails"
        indexes = [
            models.Index(
                fields=["next_attempt_at"],
                condition=models.Q(sent_at=None, failed_at=None),
                name="mails_waiting",
            ),
            models.Index(
                fields=["recipient"],
                condition=models.Q(sent_at=None, failed_at=None),
                name="mails_waiting_for",
            ),
        ]

    def __str__(self) -> str:
        return self.subject
