"""Settings. One file; every difference between deployments is an environment variable.

Importing this starts nothing and talks to no service. Without any variable it describes a safe
production-like site on the embedded services; `.env.example` lists what can be changed.
"""

import secrets
from pathlib import Path
from typing import Any

import environ
from django.core.exceptions import ImproperlyConfigured

from config.embedded.paths import StatePaths

BASE_DIR = Path(__file__).resolve().parent.parent

env = environ.Env()
env.read_env(env.str("KETER_ENV_FILE", default=str(BASE_DIR / ".env")))

# --- Where this installation keeps its files -------------------------------------------------
STATE_DIR = Path(env.str("KETER_STATE_DIR", default=str(BASE_DIR / ".keter"))).absolute()
STATE_PATHS = StatePaths.of(STATE_DIR)

# --- Security --------------------------------------------------------------------------------
SECRET_KEY_LENGTH_MIN = 50
SECRET_KEY_IS_TEMPORARY = not (env.str("SECRET_KEY", "") or STATE_PATHS.secret_key.is_file())


def _secret_key() -> str:
    """The key from the environment, else the installation's own file, else one for this process.

    The last case is for imports without an installation (tests of the rules, tools); `serve` and
    `quickstart` write the file before they start a web process.
    """
    if SECRET_KEY_IS_TEMPORARY:
        return secrets.token_urlsafe(50)
    key = env.str("SECRET_KEY", default="") or STATE_PATHS.secret_key.read_text().strip()
    if len(key) < SECRET_KEY_LENGTH_MIN:
        raise ImproperlyConfigured(f"SECRET_KEY needs {SECRET_KEY_LENGTH_MIN} characters or more.")
    return key


DEBUG = env.bool("DEBUG", default=False)
SECRET_KEY = _secret_key()
SECRET_KEY_FALLBACKS = env.list("SECRET_KEY_FALLBACKS", default=[])
ALLOWED_HOSTS = env.list("ALLOWED_HOSTS", default=["localhost", "127.0.0.1", "[::1]"])
CSRF_TRUSTED_ORIGINS = env.list("CSRF_TRUSTED_ORIGINS", default=[])

# Off only for plain http on a loopback address; `serve` turns it off there and nowhere else.
SECURE = env.bool("SECURE", default=True)
if env.bool("TRUST_PROXY", default=False):
    SECURE_PROXY_SSL_HEADER = ("HTTP_X_FORWARDED_PROTO", "https")
SECURE_SSL_REDIRECT = SECURE
SECURE_HSTS_SECONDS = env.int("SECURE_HSTS_SECONDS", default=31_536_000) if SECURE else 0
SECURE_HSTS_INCLUDE_SUBDOMAINS = SECURE
SECURE_HSTS_PRELOAD = SECURE
SECURE_CONTENT_TYPE_NOSNIFF = True
SECURE_REFERRER_POLICY = "same-origin"
SECURE_CROSS_ORIGIN_OPENER_POLICY = "same-origin"
X_FRAME_OPTIONS = "DENY"

# The __Host- prefix makes the browser itself insist on https, no domain and the root path.
SESSION_ENGINE = "django.contrib.sessions.backends.db"
SESSION_COOKIE_NAME = "__Host-sid" if SECURE else "sid"
SESSION_COOKIE_SECURE = SECURE
SESSION_COOKIE_HTTPONLY = True
SESSION_COOKIE_SAMESITE = "Lax"
SESSION_COOKIE_AGE = 8 * 60 * 60
SESSION_EXPIRE_AT_BROWSER_CLOSE = True
SESSION_IDLE_SECONDS = env.int("SESSION_IDLE_SECONDS", default=30 * 60)
SESSION_ABSOLUTE_SECONDS = env.int("SESSION_ABSOLUTE_SECONDS", default=8 * 60 * 60)
CSRF_COOKIE_NAME = "__Host-csrf" if SECURE else "csrf"
CSRF_COOKIE_SECURE = SECURE
CSRF_COOKIE_HTTPONLY = True
CSRF_COOKIE_SAMESITE = "Lax"

DATA_UPLOAD_MAX_MEMORY_SIZE = 2_621_440
FILE_UPLOAD_MAX_MEMORY_SIZE = 2_621_440
DATA_UPLOAD_MAX_NUMBER_FIELDS = 2_000
DATA_UPLOAD_MAX_NUMBER_FILES = 5
FILE_UPLOAD_PERMISSIONS = 0o640

# --- Applications ----------------------------------------------------------------------------
INSTALLED_APPS = [
    "config.apps.PlatformConfig",
    "config.apps.BackOfficeAdminConfig",
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "django.contrib.sessions",
    "django.contrib.messages",
    "whitenoise.runserver_nostatic",
    "django.contrib.staticfiles",
    "django.contrib.humanize",
    "django.contrib.postgres",
    "guardian",
    "accounts",
    "billing",
]

MIDDLEWARE = [
    "accounts.middleware.RequestIdMiddleware",
    "accounts.middleware.ContentSecurityPolicyMiddleware",
    "django.middleware.security.SecurityMiddleware",
    "whitenoise.middleware.WhiteNoiseMiddleware",
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.middleware.common.CommonMiddleware",
    "django.middleware.csrf.CsrfViewMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
    "accounts.middleware.SessionLimitsMiddleware",
    "django.contrib.messages.middleware.MessageMiddleware",
    "django.middleware.clickjacking.XFrameOptionsMiddleware",
]

ROOT_URLCONF = "config.urls"
ADMIN_PATH = env.str("ADMIN_PATH", default="")
WSGI_APPLICATION = "config.wsgi.application"
ASGI_APPLICATION = "config.asgi.application"

TEMPLATES: list[dict[str, Any]] = [
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

DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"

# --- People ----------------------------------------------------------------------------------
AUTH_USER_MODEL = "accounts.User"
AUTHENTICATION_BACKENDS = ["accounts.backends.AccessBackend"]
LOGIN_FAILURES_MAX = env.int("LOGIN_FAILURES_MAX", default=5)
LOGIN_LOCK_SECONDS = env.int("LOGIN_LOCK_SECONDS", default=15 * 60)
# guardian looks for its own backend by name; ours extends it and honours dates.
SILENCED_SYSTEM_CHECKS = ["guardian.W001"]
ANONYMOUS_USER_NAME = None  # guardian: nobody is nobody; no row stands for the anonymous visitor
PASSWORD_HASHERS = [
    "django.contrib.auth.hashers.Argon2PasswordHasher",
    "django.contrib.auth.hashers.PBKDF2PasswordHasher",
]
AUTH_PASSWORD_VALIDATORS = [
    {"NAME": "django.contrib.auth.password_validation.UserAttributeSimilarityValidator"},
    {
        "NAME": "django.contrib.auth.password_validation.MinimumLengthValidator",
        "OPTIONS": {"min_length": 12},
    },
    {"NAME": "django.contrib.auth.password_validation.CommonPasswordValidator"},
    {"NAME": "django.contrib.auth.password_validation.NumericPasswordValidator"},
]
LOGIN_URL = "admin:login"

# --- Database --------------------------------------------------------------------------------
# The application role runs web, worker and tests. The owner is no alias: only `migrate`,
# `db_roles` and the test set-up connect as the owner, by config.databases.
DATABASE_STATEMENT_TIMEOUT = env.str("DATABASE_STATEMENT_TIMEOUT", default="300s")
DATABASE_LOCK_TIMEOUT = env.str("DATABASE_LOCK_TIMEOUT", default="5s")
DATABASE_IDLE_TIMEOUT = env.str("DATABASE_IDLE_TIMEOUT", default="60s")
DATABASE_PREPARE = env.bool("DATABASE_PREPARE", default=True)
DATABASE_URL = env.str("DATABASE_URL", default="")
DATABASE_OWNER_URL = env.str("DATABASE_OWNER_URL", default="")
DATABASE_IS_EMBEDDED = not DATABASE_URL
if DATABASE_OWNER_URL and DATABASE_IS_EMBEDDED:
    raise ImproperlyConfigured("DATABASE_OWNER_URL is set and DATABASE_URL is not: set both.")


def _database(url: str, role: str) -> dict[str, Any]:
    """Django's description of one connection; without a URL it is the embedded cluster's."""
    database: dict[str, Any]
    if url:
        database = dict(env.db_url_config(url))
    else:
        database = {
            "ENGINE": "django.db.backends.postgresql",
            "NAME": "keter",
            "USER": role,
            "HOST": str(STATE_PATHS.run),
            "OPTIONS": {"passfile": str(STATE_PATHS.passfile(role))},
        }
    if database["ENGINE"] != "django.db.backends.postgresql":
        raise ImproperlyConfigured("Keter Billing keeps its books in PostgreSQL: use postgres://…")
    return database


def _application_database() -> dict[str, Any]:
    database = _database(DATABASE_URL, "keter_app")
    options = database.setdefault("OPTIONS", {})
    limits = (
        f"-c statement_timeout={DATABASE_STATEMENT_TIMEOUT}"
        f" -c lock_timeout={DATABASE_LOCK_TIMEOUT}"
        f" -c idle_in_transaction_session_timeout={DATABASE_IDLE_TIMEOUT}"
    )
    options["options"] = f"{limits} {options.get('options', '')}".strip()
    # Only the ledger's doors are prepared; Django's own queries are bound in the client.
    options["prepare_threshold"] = 2 if DATABASE_PREPARE else None
    return database | {
        "ATOMIC_REQUESTS": False,
        "CONN_MAX_AGE": env.int("DATABASE_CONN_MAX_AGE", default=60),
        "CONN_HEALTH_CHECKS": True,
    }


DATABASES = {"default": _application_database()}
DATABASE_OWNER: dict[str, Any] | None = (
    _database(DATABASE_OWNER_URL, "keter_owner")
    if DATABASE_OWNER_URL or DATABASE_IS_EMBEDDED
    else None
)
DATABASE_APP_ROLE: str = DATABASES["default"]["USER"]
DATABASE_OWNER_ROLE: str = DATABASE_OWNER["USER"] if DATABASE_OWNER else ""

# --- Celery ----------------------------------------------------------------------------------
CELERY_BROKER_URL = env.str(
    "CELERY_BROKER_URL", default=f"redis+socket://{STATE_PATHS.valkey_socket}"
)
BROKER_IS_EMBEDDED = not env.str("CELERY_BROKER_URL", default="")
CELERY_ACCEPT_CONTENT = ["json"]
CELERY_TASK_SERIALIZER = "json"
CELERY_RESULT_SERIALIZER = "json"
CELERY_TASK_IGNORE_RESULT = True
CELERY_TASK_ACKS_LATE = True
CELERY_TASK_REJECT_ON_WORKER_LOST = True  # attempts are counted, and capped, in the database
CELERY_TASK_TIME_LIMIT = 120
CELERY_TASK_SOFT_TIME_LIMIT = 90
CELERY_TASK_PUBLISH_RETRY = True
CELERY_TASK_PUBLISH_RETRY_POLICY = {"max_retries": 1, "interval_start": 0, "interval_max": 0.2}
CELERY_WORKER_CONCURRENCY = env.int("CELERY_WORKER_CONCURRENCY", default=2)
CELERY_WORKER_PREFETCH_MULTIPLIER = 1
CELERY_WORKER_MAX_TASKS_PER_CHILD = 200
CELERY_WORKER_MAX_MEMORY_PER_CHILD = 400_000  # KB
CELERY_WORKER_CANCEL_LONG_RUNNING_TASKS_ON_CONNECTION_LOSS = True
CELERY_WORKER_SOFT_SHUTDOWN_TIMEOUT = 10.0
CELERY_WORKER_HIJACK_ROOT_LOGGER = False
CELERY_BROKER_CONNECTION_RETRY_ON_STARTUP = True
CELERY_BROKER_TRANSPORT_OPTIONS = {
    "visibility_timeout": 3_600,  # well above ten times the hard time limit
    "unacked_restore_interval": 10,
    "unacked_restore_throttle": 1,
    "socket_timeout": 5,
    "socket_connect_timeout": 2,
}
CELERY_TIMEZONE = "UTC"
CELERY_BEAT_SCHEDULE_FILENAME = str(STATE_DIR / "beat-schedule")
CELERY_BEAT_SCHEDULE: dict[str, dict[str, Any]] = {
    "heartbeat": {"task": "billing.heartbeat", "schedule": 20.0, "options": {"expires": 60}},
    "run_due": {"task": "billing.run_due", "schedule": 15.0, "options": {"expires": 30}},
    "render_missing": {
        "task": "billing.render_missing",
        "schedule": 30.0,
        "options": {"expires": 60},
    },
    "sweep_credits": {
        "task": "billing.sweep_credits",
        "schedule": 60.0,
        "options": {"expires": 120},
    },
    "refresh_roles": {
        "task": "billing.refresh_roles",
        "schedule": 60.0,
        "options": {"expires": 120},
    },
}

# --- What `manage.py serve` runs --------------------------------------------------------------
SERVE_HOST = env.str("HOST", default="127.0.0.1")
SERVE_PORT = env.int("PORT", default=8000)
WEB_WORKERS = env.int("WEB_WORKERS", default=2)
WEB_THREADS = env.int("WEB_THREADS", default=4)

# --- Language and time -----------------------------------------------------------------------
LANGUAGE_CODE = "en"
USE_I18N = True
USE_TZ = True
TIME_ZONE = "UTC"

# --- Files -----------------------------------------------------------------------------------
STATIC_URL = "static/"
# With the manifest, `collectstatic` runs at deployment and files are cached for ever by hash;
# without it they are served from where they lie.
STATIC_MANIFEST = env.bool("STATIC_MANIFEST", default=False)
STATIC_ROOT = env.str("STATIC_ROOT", str(STATE_DIR / "static")) if STATIC_MANIFEST else None
WHITENOISE_USE_FINDERS = not STATIC_MANIFEST
WHITENOISE_AUTOREFRESH = DEBUG
DOCUMENTS_ROOT = env.str("DOCUMENTS_ROOT", default=str(STATE_DIR / "documents"))
STORAGES: dict[str, dict[str, Any]] = {
    "default": {
        "BACKEND": "django.core.files.storage.FileSystemStorage",
        "OPTIONS": {"location": str(STATE_DIR / "media")},
    },
    # Never below a web root: a document leaves only through a view that asks for permission.
    "documents": {
        "BACKEND": "django.core.files.storage.FileSystemStorage",
        "OPTIONS": {
            "location": DOCUMENTS_ROOT,
            "base_url": None,
            "file_permissions_mode": 0o640,
            "directory_permissions_mode": 0o750,
        },
    },
    "staticfiles": {
        "BACKEND": (
            "whitenoise.storage.CompressedManifestStaticFilesStorage"
            if STATIC_MANIFEST
            else "django.contrib.staticfiles.storage.StaticFilesStorage"
        ),
    },
}

# --- Mail and logs ---------------------------------------------------------------------------
EMAIL_URL = env.str("EMAIL_URL", default="consolemail://")
vars().update(env.email_url_config(EMAIL_URL))
DEFAULT_FROM_EMAIL = env.str("DEFAULT_FROM_EMAIL", default="billing@localhost")
SERVER_EMAIL = DEFAULT_FROM_EMAIL

LOG_LEVEL = env.str("LOG_LEVEL", default="INFO")
LOG_FORMAT = env.str("LOG_FORMAT", default="json")
LOGGING: dict[str, Any] = {
    "version": 1,
    "disable_existing_loggers": False,
    "formatters": {
        "json": {"()": "config.logs.JsonFormatter"},
        "line": {
            "()": "config.logs.LineFormatter",
            "format": "%(asctime)sZ %(levelname)s %(name)s %(message)s",
        },
    },
    "handlers": {"console": {"class": "logging.StreamHandler", "formatter": LOG_FORMAT}},
    "root": {"handlers": ["console"], "level": LOG_LEVEL},
    "loggers": {
        "django": {"level": LOG_LEVEL},
        "weasyprint": {"level": "ERROR"},
        "fontTools": {"level": "ERROR"},
    },
}

# --- The product -----------------------------------------------------------------------------
# Fail points are armed by tests only; see FAILPOINT in the fault tests.
FAILPOINTS = env.bool("FAILPOINTS", default=False)
# After this long another worker takes up what a dead one left of an invoice run.
RUN_LEASE_SECONDS = env.int("RUN_LEASE_SECONDS", default=300)
