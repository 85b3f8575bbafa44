"""Every setting, in one file. Each is ``ZCPLATFORM_<NAME>`` or ``ZCPLATFORM_<NAME>_FILE``; what is also in
``platform.toml`` is overridden by the environment. A bad value stops the start."""

from __future__ import annotations

import logging
import re
from pathlib import Path
from urllib.parse import quote, unquote, urlsplit

import dj_database_url
from django.core.exceptions import ImproperlyConfigured

from zcplatform import __version__, keys, platform_toml
from zcplatform.lib import env, swap
from zcplatform.lib.redact import remember
from zcplatform.logs import logging_config

BASE_DIR = Path(__file__).resolve().parent.parent
HOME = env.path("HOME", BASE_DIR / "data")
CONFIG_FILE = env.path("CONFIG", BASE_DIR / "platform.toml")
DATABASE_URL = env.text("DATABASE_URL", f"sqlite:///{quote(str(HOME / 'zcplatform.db'))}")
swap.settle(HOME, DATABASE_URL)  # a restore that was cut short is finished before anything of the home is read
TOML = platform_toml.load(CONFIG_FILE)
VERSION = __version__

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
BIND = env.text("BIND", TOML.server.bind).strip("[]")
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
_HERE = {"127.0.0.1", "[::1]", "localhost"} | ({f"[{BIND}]" if ":" in BIND else BIND} - {"", "0.0.0.0", "[::]"})  # noqa: S104
ALLOWED_HOSTS = env.words("ALLOWED_HOSTS", sorted({PUBLIC_HOST, DOMAIN, f"api.{DOMAIN}"} | _HERE))
SELF_SERVICE_SIGNUP = env.flag("SELF_SERVICE_SIGNUP", False)
# What they who sign up may choose from, and how much one of them may own; see tenants.offer.
SIGNUP_PLANS = env.words("SIGNUP_PLANS", ["free"])
SIGNUP_RUNTIMES = env.words("SIGNUP_RUNTIMES", [])
SIGNUP_AGENTS = env.words("SIGNUP_AGENTS", [])
SIGNUP_MAX_TENANTS = env.integer("SIGNUP_MAX_TENANTS", 3)
SIGNUP_MAX_MEMORY_MB = env.integer("SIGNUP_MAX_MEMORY_MB", 4_096)
SIGNUP_MAX_DISK_MB = env.integer("SIGNUP_MAX_DISK_MB", 40_960)

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
USAGE_DAYS = env.integer("USAGE_DAYS", 400, low=32)  # a calendar month must be whole for its quota
# Uptime looks 30 days back, from the events.
HISTORY_DAYS = env.integer("HISTORY_DAYS", 90, low=32, high=36_500)
TRASH_DAYS = env.integer("TRASH_DAYS", 7, low=0)
ALLOW_UNPRIVILEGED_PROCESS = env.flag("ALLOW_UNPRIVILEGED_PROCESS", DEBUG)
# Providers and webhooks are https only, unless the operator allows http (a model on the same network, say).
ALLOW_HTTP_ENDPOINTS = env.flag("ALLOW_HTTP_ENDPOINTS", DEBUG)
# What agents may connect to: a mode for all plans, and plan=mode for those that differ.
EGRESS_DEFAULT = env.by_plan("EGRESS_DEFAULT", "open", ("open", "allowlist", "gateway"))
EGRESS_PROXY_PORT = env.integer("EGRESS_PROXY_PORT", 3_128, low=1_024, high=65_535)
# host:port that is not public and may be reached through the proxy all the same: a model on the same network, say.
EGRESS_INTERNAL = env.host_ports("EGRESS_INTERNAL")
ALLOW_UNENFORCED_EGRESS = env.flag("ALLOW_UNENFORCED_EGRESS", DEBUG)
ENDPOINT_NETWORKS = env.networks("ENDPOINT_NETWORKS")  # private networks that outgoing requests may go to
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
DOOR_BODY_MAX = env.integer("DOOR_BODY_MAX", 20_971_520, low=1_048_576, high=67_108_864)  # bytes of a chat's body
CHATS_PER_TENANT = env.integer("CHATS_PER_TENANT", 20)  # at the same time, in each web process
TENANT_URL = env.text("TENANT_URL", "")  # pattern with {slug}; empty: made from the router, domain and port

# --- Django ----------------------------------------------------------------------------------------------
INSTALLED_APPS = [
    "django.contrib.auth",
    "zcplatform.apps.ZcplatformConfig",
    "audit",
    "accounts",
    "vault",
    "tenants",
    "backups",
    "monitoring",
    "zcplatform.apps.AdminConfig",
    "django.contrib.contenttypes",
    "django.contrib.sessions",
    "django.contrib.messages",
    "whitenoise.runserver_nostatic",
    "django.contrib.staticfiles",
    "django_htmx",
    "django_structlog",
    "django_otp",
    "django_otp.plugins.otp_totp",
    "django_otp.plugins.otp_static",
    "django_q",
]
MIDDLEWARE = [
    "zcplatform.http_metrics.TimingMiddleware",
    "django.middleware.security.SecurityMiddleware",
    "zcplatform.middleware.HeadersMiddleware",
    "whitenoise.middleware.WhiteNoiseMiddleware",
    "zcplatform.middleware.RequestLogMiddleware",
    "zcplatform.middleware.EnvelopeMiddleware",
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.middleware.locale.LocaleMiddleware",
    "django.middleware.common.CommonMiddleware",
    "django.middleware.csrf.CsrfViewMiddleware",
    "accounts.middleware.LoginMiddleware",
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
            "builtins": ["zcplatform.templatetags.times"],
        },
    },
]
AUTH_USER_MODEL = "accounts.User"
AUTHENTICATION_BACKENDS = ["django.contrib.auth.backends.ModelBackend"]
LOGIN_URL = "/login"
LOGIN_REDIRECT_URL = "/"
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"
USE_TZ = True
TIME_ZONE = "UTC"  # what a page, a mail, a command, a file's name or a schedule says of time is UTC
LANGUAGE_CODE = "en"
USE_I18N = True
LANGUAGES = [("en", "English"), ("pt-br", "Português (Brasil)")]
LOCALE_PATHS = [BASE_DIR / "locale"]

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
try:
    DATABASES = {"default": dj_database_url.parse(DATABASE_URL, conn_max_age=60, conn_health_checks=True)}
except ValueError:  # its text may hold the password
    raise ImproperlyConfigured("ZCPLATFORM_DATABASE_URL: not the address of a database.") from None
if DATABASES["default"]["ENGINE"].endswith("sqlite3"):
    DATABASES["default"]["ENGINE"] = "zcplatform.lib.sqlite3"  # Django's, with turns for the writers
    # The vault's key is made after the database: where there is one, a database that is not there is lost.
    DATABASES["default"]["OPTIONS"] = SQLITE_OPTIONS | {"must_exist": VAULT_KEY_FILE.exists()}
REDIS_URL = env.redis_url("REDIS_URL")  # where the windows of the rate limits are; empty: in the database

# --- backups ---------------------------------------------------------------------------------------------
# On the same disk by default: it guards against mistakes, not against the loss of the disk.
BACKUP_DIR = env.path("BACKUP_DIR", HOME / "backups")
BACKUP_CRON = env.text("BACKUP_CRON", "0 3 * * *")  # in UTC; empty: never
BACKUP_KEEP = env.integer("BACKUP_KEEP", 14, low=0)
BACKUP_MAX_AGE_HOURS = env.integer("BACKUP_MAX_AGE_HOURS", 26)
DRILL_CRON = env.text("DRILL_CRON", "30 4 * * 0")
DRILL_MAX_AGE_HOURS = env.integer("DRILL_MAX_AGE_HOURS", 192)

# --- the brand: shown on every page ---------------------------------------------------------------------------
BRAND_NAME = env.text("BRAND_NAME", "zcplatform")
BRAND_COLOR = env.text("BRAND_COLOR")  # #rrggbb; made darker or lighter where text in it could not be read
if not re.fullmatch(r"(#[0-9a-fA-F]{6})?", BRAND_COLOR):
    raise ImproperlyConfigured(f"ZCPLATFORM_BRAND_COLOR={BRAND_COLOR!r}: expected #rrggbb.")
BRAND_LOGO = env.text("BRAND_LOGO")  # path of an SVG or PNG, 24 px high on the page

# --- web security ----------------------------------------------------------------------------------------
SESSION_COOKIE_NAME = "__Host-zc_session" if IS_HTTPS else "zc_session"
CSRF_COOKIE_NAME = "__Host-zc_csrf" if IS_HTTPS else "zc_csrf"
SESSION_COOKIE_SECURE = CSRF_COOKIE_SECURE = IS_HTTPS
SESSION_COOKIE_HTTPONLY = CSRF_COOKIE_HTTPONLY = True
SESSION_COOKIE_AGE = 12 * 3600  # however active; a login's row holds it too
ADMIN_SECOND_FACTOR = env.flag("ADMIN_SECOND_FACTOR", False)  # /admin/ only for who enrolled one
SESSION_IDLE_MINUTES = env.integer("SESSION_IDLE_MINUTES", 60, low=1)
API_REQUESTS_PER_MINUTE = env.integer("API_REQUESTS_PER_MINUTE", 600, low=1)  # of each user
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
if EMAIL_HOST:
    EMAIL_BACKEND = "django.core.mail.backends.smtp.EmailBackend"
else:  # codes on the console are for developers; elsewhere they would stand in a log
    EMAIL_BACKEND = "django.core.mail.backends.console.EmailBackend" if DEBUG else "accounts.mail.NoServer"

# --- alerts ----------------------------------------------------------------------------------------------
NOTIFIERS = {
    "mail": "monitoring.alerting.notifiers.mail.MailNotifier",
    "webhook": "monitoring.alerting.notifiers.webhook.WebhookNotifier",
    "slack": "monitoring.alerting.notifiers.slack.SlackNotifier",
    "telegram": "monitoring.alerting.notifiers.telegram.TelegramNotifier",
}

# Called every minute while the platform looks after itself; a service outside that misses it raises the alarm.
HEARTBEAT_URL = env.text("HEARTBEAT_URL")
METRICS_TOKEN = env.text("METRICS_TOKEN")  # whoever sends it as a bearer may read /metrics; empty: nobody may

# --- the queue -------------------------------------------------------------------------------------------
# The queue carries only "do run N"; the truth is the Run row with its lease. Why each value is what it is:
# docs/adr/0004-queue.md.
_QUEUE = {
    "orm": "default",
    "time_zone": "UTC",  # in which the crons are
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
# Three, since two long jobs may meet (a backup or its drill, the check of the audit's chain, a sweep that hangs), and
# health, reconcile and mail have to go on meanwhile. A worker that waits costs memory and no CPU.
SWEEP_WORKERS = 3
Q_CLUSTER = {
    **_QUEUE,
    "name": "runs",
    "workers": RUN_WORKERS,
    "queue_limit": RUN_WORKERS,
    "poll": 0.1,
    "scheduler": False,
    "ALT_CLUSTERS": {
        "sweeps": {**_QUEUE, "workers": SWEEP_WORKERS, "queue_limit": SWEEP_WORKERS, "poll": 1, "scheduler": True}
    },
}

# --- logs ------------------------------------------------------------------------------------------------
LOG_FORMAT = env.choice("LOG_FORMAT", "console" if DEBUG else "json", ("json", "console"))
LOG_LEVEL = env.choice("LOG_LEVEL", "info", ("debug", "info", "warning", "error")).upper()
LOGGING = logging_config(level=LOG_LEVEL, form=LOG_FORMAT)
DJANGO_STRUCTLOG_IP_LOGGING_ENABLED = False
DJANGO_STRUCTLOG_STATUS_START_LOG_LEVEL = logging.DEBUG  # one line per request, when it has ended
DJANGO_STRUCTLOG_TRUST_UPSTREAM_REQUEST_ID = True  # zcplatform.middleware has put ours in its place

# What must never stand in a log, whoever writes it there.
for _secret in (
    SECRET_KEY,
    *SECRET_KEY_FALLBACKS,
    JWT_KEY,
    PEPPER,
    VAULT_PASSPHRASE,
    EMAIL_HOST_PASSWORD,
    HEARTBEAT_URL,
    METRICS_TOKEN,
    str(DATABASES["default"].get("PASSWORD") or ""),
    urlsplit(REDIS_URL).password or "",
    unquote(urlsplit(REDIS_URL).password or ""),
):
    remember(_secret, for_good=True)
