"""Every setting, in one file. Each is ``ZCPLATFORM_<NAME>`` or ``ZCPLATFORM_<NAME>_FILE``; what is also in
``platform.toml`` is overridden by the environment. A bad value stops the start."""

from __future__ import annotations

import logging
from pathlib import Path
from urllib.parse import quote, urlsplit

import dj_database_url
from django.core.exceptions import ImproperlyConfigured

from zcplatform import keys, platform_toml
from zcplatform.lib import env
from zcplatform.lib.redact import remember
from zcplatform.logs import logging_config

BASE_DIR = Path(__file__).resolve().parent.parent
HOME = env.path("HOME", BASE_DIR / "data")
CONFIG_FILE = env.path("CONFIG", BASE_DIR / "platform.toml")
TOML = platform_toml.load(CONFIG_FILE)

# --- keys ------------------------------------------------------------------------------------------------
KEYS_DIR = env.path("KEYS_DIR", HOME / "keys")
SECRET_KEY = keys.read("SECRET_KEY", KEYS_DIR)  # empty before bootstrap: anything that needs it then fails loudly
SECRET_KEY_FALLBACKS = env.words("SECRET_KEY_FALLBACKS", [])
JWT_KEY = keys.read("JWT_KEY", KEYS_DIR)
PEPPER = keys.read("PEPPER", KEYS_DIR)
VAULT_KEY_FILE = env.path("VAULT_KEY_FILE", KEYS_DIR / "vault.json")
VAULT_PASSPHRASE = env.text("VAULT_PASSPHRASE")
# What tells this installation's containers, networks and routes from another's on the same engine.
INSTANCE = keys.instance_id(HOME)

# --- the server ------------------------------------------------------------------------------------------
DEBUG = env.flag("DEBUG", False)
DOMAIN = env.text("DOMAIN", TOML.server.domain).lower()
BIND = env.text("BIND", TOML.server.bind)
PORT = env.integer("PORT", TOML.server.port, high=65_535)
WEB_WORKERS = env.integer("WEB_WORKERS", 2)
RUN_WORKERS = env.integer("RUN_WORKERS", 4)
PUBLIC_BASE_URL = env.text("PUBLIC_BASE_URL", TOML.server.public_base_url or f"http://{DOMAIN}:{PORT}").rstrip("/")
_public = urlsplit(PUBLIC_BASE_URL)
if (
    _public.scheme not in ("http", "https")
    or f"{_public.scheme}://{_public.netloc}" != PUBLIC_BASE_URL
    or not (_public.hostname and "@" not in _public.netloc)
):
    raise ImproperlyConfigured(
        f"ZCPLATFORM_PUBLIC_BASE_URL={PUBLIC_BASE_URL!r}: expected http:// or https://, a host and perhaps a port."
    )
IS_HTTPS = _public.scheme == "https"
PUBLIC_HOST = f"[{_public.hostname}]" if ":" in _public.hostname else _public.hostname
ALLOWED_HOSTS = env.words("ALLOWED_HOSTS", sorted({PUBLIC_HOST, DOMAIN, f"api.{DOMAIN}", "127.0.0.1", "localhost"}))
SELF_SERVICE_SIGNUP = env.flag("SELF_SERVICE_SIGNUP", False)
SIGNUP_PLANS = env.words("SIGNUP_PLANS", ["free"])  # what they who sign up may choose from

# --- where agents run ------------------------------------------------------------------------------------
RUNTIME = env.text("RUNTIME", "process")
RUNTIMES = {
    "process": "tenants.runtimes.process.ProcessRuntime",
    "docker": "tenants.runtimes.docker.DockerRuntime",
}
DOCKER_HOST = env.text("DOCKER_HOST", TOML.docker.socket)
CONTAINER_PREFIX = env.text("CONTAINER_PREFIX", TOML.docker.container_prefix)
SUBNET_POOL = env.text("SUBNET_POOL", TOML.docker.subnet_pool)
SUBNET_PREFIX = env.integer("SUBNET_PREFIX", TOML.docker.subnet_prefix)
TENANTS_PER_NETWORK = env.integer("TENANTS_PER_NETWORK", TOML.docker.tenants_per_network)
LOG_MAX_SIZE = env.text("LOG_MAX_SIZE", TOML.docker.log_max_size)
LOG_MAX_FILES = env.integer("LOG_MAX_FILES", TOML.docker.log_max_files)
PORT_RANGE = env.int_range("PORT_RANGE", (10_001, 12_000))
UID_RANGE = env.int_range("UID_RANGE", (200_000, 299_999))
TRASH_DAYS = env.integer("TRASH_DAYS", 7, low=0)
ALLOW_UNPRIVILEGED_PROCESS = env.flag("ALLOW_UNPRIVILEGED_PROCESS", DEBUG)
# Providers and webhooks are https only, unless the operator allows http (a model on the same network, say).
ALLOW_HTTP_ENDPOINTS = env.flag("ALLOW_HTTP_ENDPOINTS", DEBUG)
AGENTS = {
    "demo": "tenants.agents.demo.DemoAgent",
    "zeroclaw": "tenants.agents.zeroclaw.ZeroClawAgent",
    "openclaw": "tenants.agents.openclaw.OpenClawAgent",
    "nanobot": "tenants.agents.nanobot.NanobotAgent",
}
AGENT_IMAGES = {
    "demo": env.text("IMAGE_DEMO", "zcplatform-demo:latest"),
    "zeroclaw": env.text("IMAGE_ZEROCLAW", "ghcr.io/zeroclaw-labs/zeroclaw:0.8.4"),
    "openclaw": env.text("IMAGE_OPENCLAW", "zcplatform-openclaw:2026.9.6"),
    "nanobot": env.text("IMAGE_NANOBOT", "zcplatform-nanobot:0.3.5"),
}

# --- the router ------------------------------------------------------------------------------------------
ROUTERS = {"direct": "tenants.routing.direct.DirectRouter", "caddy": "tenants.routing.caddy.CaddyRouter"}
ROUTER = env.choice("ROUTER", TOML.proxy.router, tuple(ROUTERS))
# Behind a proxy of ours, a caller's address is the last one in X-Forwarded-For, and only from a peer on this machine.
BEHIND_PROXY = env.flag("BEHIND_PROXY", IS_HTTPS or ROUTER == "caddy")
CADDY_ADMIN = env.text("CADDY_ADMIN", TOML.proxy.admin)  # a unix socket path; empty: serve starts Caddy itself
CADDY_LISTEN = env.text("CADDY_LISTEN", TOML.proxy.listen)
CADDY_HTTPS = env.flag("CADDY_HTTPS", TOML.proxy.https)
STREAM_CLOSE_DELAY_S = env.integer("STREAM_CLOSE_DELAY_S", 3_600)  # open streams outlive a change of the routes so long
CHATS_PER_TENANT = env.integer("CHATS_PER_TENANT", 20)  # at the same time, in each web process
TENANT_URL = env.text("TENANT_URL", "")  # pattern with {slug}; empty: made from the router, domain and port

# --- Django ----------------------------------------------------------------------------------------------
INSTALLED_APPS = [
    "django.contrib.auth",  # first: accounts.admin takes back what its admin registers
    "zcplatform.apps.ZcplatformConfig",
    "audit",
    "accounts",
    "vault",
    "tenants",
    "monitoring",
    "zcplatform.apps.AdminConfig",
    "django.contrib.contenttypes",
    "django.contrib.sessions",
    "django.contrib.messages",
    "whitenoise.runserver_nostatic",
    "django.contrib.staticfiles",
    "django_htmx",
    "django_structlog",
    "django_q",
]
MIDDLEWARE = [
    "django.middleware.security.SecurityMiddleware",
    "zcplatform.middleware.HeadersMiddleware",
    "whitenoise.middleware.WhiteNoiseMiddleware",
    "zcplatform.middleware.RequestLogMiddleware",
    "zcplatform.middleware.EnvelopeMiddleware",
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.middleware.common.CommonMiddleware",
    "django.middleware.csrf.CsrfViewMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
    "django.contrib.messages.middleware.MessageMiddleware",
    "django.middleware.clickjacking.XFrameOptionsMiddleware",
    "django_htmx.middleware.HtmxMiddleware",
]
ROOT_URLCONF = "zcplatform.urls"
ASGI_APPLICATION = "zcplatform.asgi.application"
TEMPLATES = [
    {
        "BACKEND": "django.template.backends.django.DjangoTemplates",
        "DIRS": [BASE_DIR / "templates"],
        "APP_DIRS": True,
        "OPTIONS": {
            "context_processors": [
                "django.template.context_processors.request",
                "django.contrib.auth.context_processors.auth",
                "django.contrib.messages.context_processors.messages",
            ],
        },
    },
]
AUTH_USER_MODEL = "accounts.User"
AUTHENTICATION_BACKENDS = ["django.contrib.auth.backends.ModelBackend"]
LOGIN_URL = "/login"
LOGIN_REDIRECT_URL = "/admin/"
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"
USE_TZ = True
TIME_ZONE = TOML.server.time_zone
LANGUAGE_CODE = "en"
USE_I18N = True

# --- database --------------------------------------------------------------------------------------------
# The figures behind these options stand in docs/adr/0003-sqlite.md: with DEFERRED, a read followed by a write
# fails at once under load whatever the timeout; IMMEDIATE waits its turn.
SQLITE_OPTIONS = {
    "timeout": 20,
    "transaction_mode": "IMMEDIATE",
    "init_command": (
        "PRAGMA journal_mode=WAL; PRAGMA synchronous=NORMAL; PRAGMA temp_store=MEMORY; PRAGMA mmap_size=134217728; "
        "PRAGMA journal_size_limit=67108864; PRAGMA cache_size=-20000"
    ),
}
DATABASE_URL = env.text("DATABASE_URL", f"sqlite:///{quote(str(HOME / 'zcplatform.db'))}")
try:
    DATABASES = {"default": dj_database_url.parse(DATABASE_URL, conn_max_age=60, conn_health_checks=True)}
except ValueError:  # its text may hold the password
    raise ImproperlyConfigured("ZCPLATFORM_DATABASE_URL: not the address of a database.") from None
if DATABASES["default"]["ENGINE"].endswith("sqlite3"):
    DATABASES["default"]["OPTIONS"] = SQLITE_OPTIONS

# --- web security ----------------------------------------------------------------------------------------
SESSION_COOKIE_NAME = "__Host-zc_session" if IS_HTTPS else "zc_session"
CSRF_COOKIE_NAME = "__Host-zc_csrf" if IS_HTTPS else "zc_csrf"
SESSION_COOKIE_SECURE = CSRF_COOKIE_SECURE = IS_HTTPS
SESSION_COOKIE_HTTPONLY = CSRF_COOKIE_HTTPONLY = True
SESSION_COOKIE_AGE = 12 * 3600
CSRF_TRUSTED_ORIGINS = [PUBLIC_BASE_URL]
CSRF_FAILURE_VIEW = "zcplatform.views.csrf_failure"
SECURE_SSL_REDIRECT = False  # Caddy holds the public listener and redirects there
SECURE_PROXY_SSL_HEADER = ("HTTP_X_FORWARDED_PROTO", "https") if IS_HTTPS else None
SECURE_HSTS_SECONDS = 31_536_000 if IS_HTTPS else 0
SECURE_HSTS_INCLUDE_SUBDOMAINS = IS_HTTPS
SECURE_CONTENT_TYPE_NOSNIFF = True
SECURE_REFERRER_POLICY = "same-origin"
X_FRAME_OPTIONS = "DENY"
DATA_UPLOAD_MAX_MEMORY_SIZE = 1_048_576
DATA_UPLOAD_MAX_NUMBER_FIELDS = 200
DATA_UPLOAD_MAX_NUMBER_FILES = 1
CONTENT_SECURITY_POLICY = {
    "default-src": "'none'",
    "script-src": "'self'",
    "style-src": "'self'",
    "img-src": "'self' data:",
    "connect-src": "'self'",
    "form-action": "'self'",
    "base-uri": "'none'",
    "frame-ancestors": "'none'",
    "object-src": "'none'",
}
SILENCED_SYSTEM_CHECKS = [
    "security.W008",  # Caddy redirects to https
    "security.W021",  # HSTS preloading can't be taken back: the operator's choice, made at the proxy
]

STATIC_URL = "/static/"
STATICFILES_DIRS = [BASE_DIR / "static"]
WHITENOISE_USE_FINDERS = True  # the files are served from where they lie: no collectstatic before the first start

# --- mail ------------------------------------------------------------------------------------------------
EMAIL_HOST = env.text("SMTP_HOST", TOML.smtp.host)
EMAIL_PORT = env.integer("SMTP_PORT", TOML.smtp.port, high=65_535)
EMAIL_HOST_USER = env.text("SMTP_USER", TOML.smtp.user)
EMAIL_HOST_PASSWORD = env.text("SMTP_PASSWORD", TOML.smtp.password)
EMAIL_USE_TLS = env.flag("SMTP_STARTTLS", TOML.smtp.starttls)
EMAIL_TIMEOUT = 10
DEFAULT_FROM_EMAIL = env.text("SMTP_SENDER", TOML.smtp.sender)
EMAIL_BACKEND = (
    "django.core.mail.backends.smtp.EmailBackend" if EMAIL_HOST else "django.core.mail.backends.console.EmailBackend"
)

# --- the queue -------------------------------------------------------------------------------------------
# The queue carries only "do run N"; the truth is the Run row with its lease. Why each value is what it is:
# docs/adr/0004-queue.md.
_QUEUE = {
    "orm": "default",
    "timeout": 900,
    "retry": 3_600,
    "max_attempts": 1,
    "ack_failures": True,
    "catch_up": False,
    "recycle": 200,
    "save_limit": 250,
    "bulk": 1,
    "label": "Queue",
}
Q_CLUSTER = {
    **_QUEUE,
    "name": "runs",
    "workers": RUN_WORKERS,
    "queue_limit": RUN_WORKERS,
    "poll": 0.1,
    "scheduler": False,
    "ALT_CLUSTERS": {"sweeps": {**_QUEUE, "workers": 2, "queue_limit": 2, "poll": 1, "scheduler": True}},
}

# --- logs ------------------------------------------------------------------------------------------------
LOG_FORMAT = env.choice("LOG_FORMAT", "console" if DEBUG else "json", ("json", "console"))
LOG_LEVEL = env.choice("LOG_LEVEL", "info", ("debug", "info", "warning", "error")).upper()
LOGGING = logging_config(level=LOG_LEVEL, form=LOG_FORMAT)
DJANGO_STRUCTLOG_IP_LOGGING_ENABLED = False
DJANGO_STRUCTLOG_STATUS_START_LOG_LEVEL = logging.DEBUG  # one line per request, when it has ended
DJANGO_STRUCTLOG_TRUST_UPSTREAM_REQUEST_ID = True  # after zcplatform.middleware has looked at it

# What must never stand in a log, whoever writes it there.
for _secret in (
    SECRET_KEY,
    *SECRET_KEY_FALLBACKS,
    JWT_KEY,
    PEPPER,
    VAULT_PASSPHRASE,
    EMAIL_HOST_PASSWORD,
    str(DATABASES["default"].get("PASSWORD") or ""),
):
    remember(_secret, for_good=True)
