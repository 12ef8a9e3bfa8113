"""Every setting, read from the environment. A `.env` file in the working directory is honoured.

What stands here and has a default works as it is; docs/settings.md lists them for operators.
"""

from __future__ import annotations

from pathlib import Path

from environs import Env, validate

from sandbox_platform import storage_url
from sandbox_platform.secret_key import read_or_create

env = Env()
env.read_env(recurse=False)

BASE_DIR = Path(__file__).resolve().parent.parent

# --- Where things are -------------------------------------------------------------------------------------------------
# Everything that must survive a restart, apart from PostgreSQL and S3 where they are used.
STATE_DIR = Path(env.str("SANDBOX_STATE_DIR", str(BASE_DIR / "var"))).resolve()
STATE_DIR.mkdir(mode=0o700, parents=True, exist_ok=True)

# Names this installation on a shared engine: only sandboxes with this label are ours. Made once, kept in the state folder.
INSTANCE_ID = env.str("SANDBOX_INSTANCE_ID", "") or read_or_create(STATE_DIR / "instance-id", nbytes=6)[:12]

# --- Security ---------------------------------------------------------------------------------------------------------
SECRET_KEY = env.str("SECRET_KEY", "") or read_or_create(STATE_DIR / "secret-key")
DEBUG = env.bool("DEBUG", False)
ALLOWED_HOSTS = env.list("ALLOWED_HOSTS", ["localhost", "127.0.0.1", "[::1]"])
CSRF_TRUSTED_ORIGINS: list[str] = env.list("CSRF_TRUSTED_ORIGINS", [])
# True behind a proxy that ends TLS and sets X-Forwarded-Proto.
BEHIND_TLS_PROXY = env.bool("BEHIND_TLS_PROXY", False)
if BEHIND_TLS_PROXY:
    SECURE_PROXY_SSL_HEADER = ("HTTP_X_FORWARDED_PROTO", "https")
    SESSION_COOKIE_SECURE = CSRF_COOKIE_SECURE = True
SECURE_CONTENT_TYPE_NOSNIFF = True
X_FRAME_OPTIONS = "DENY"

# --- Sandboxes --------------------------------------------------------------------------------------------------------
# auto: Docker if an engine answers and its images exist or can be made, else bubblewrap.
SANDBOX_RUNTIME = env.str("SANDBOX_RUNTIME", "auto", validate=validate.OneOf(["auto", "docker", "bubblewrap"]))
DOCKER_URL = env.str("DOCKER_HOST", "unix:///var/run/docker.sock")
NODE_NAME = env.str("SANDBOX_NODE_NAME", "node-01")
# Seconds from the start of a provisioning to a ready executor.
SANDBOX_BOOT_TIMEOUT = env.float("SANDBOX_BOOT_TIMEOUT", 30.0)
# Bytes that must stay free where the sandboxes' workspaces lie: below it there are no new sessions.
DISK_RESERVE = env.int("DISK_RESERVE", 2 * 2**30)
# Seconds. A session's record is kept this long after its end; its files this long.
SESSION_RETENTION = env.int("SESSION_RETENTION", 30 * 24 * 3600)
FILES_RETENTION = env.int("FILES_RETENTION", 24 * 3600)
# Seconds that the records of removed containers (once no session has them) and of dead processes are kept.
CONTAINER_RETENTION = env.int("CONTAINER_RETENTION", 7 * 24 * 3600)
PROCESS_RETENTION = env.int("PROCESS_RETENTION", 24 * 3600)
# Seconds that an ended session keeps its sandbox while its files can't be saved: a dead storage must not hold all capacity.
WORKSPACE_SAVE_PATIENCE = env.int("WORKSPACE_SAVE_PATIENCE", 15 * 60)
SESSION_IDLE_TIMEOUT = env.int("SESSION_IDLE_TIMEOUT", 30 * 60)
SESSION_MAX_LIFETIME = env.int("SESSION_MAX_LIFETIME", 6 * 3600)
# Runs that may wait in the queue; beyond it a submission is answered 503.
MAX_PENDING_EXECUTIONS = env.int("MAX_PENDING_EXECUTIONS", 10_000)
# A folder of wheels for image builds on a machine without a package index.
WHEEL_DIR = env.str("SANDBOX_WHEEL_DIR", "")
# The same for npm: a cache that npm filled where it had a registry.
NPM_CACHE_DIR = env.str("SANDBOX_NPM_CACHE", "")
# What is slow to make and safe to lose: the base system that stands in where no registry answers.
# What templates may build upon: image names, or beginnings of such. Empty: anything that the engine can pull.
BASE_IMAGES: list[str] = env.list("SANDBOX_BASE_IMAGES", [])
CACHE_DIR = Path(env.str("SANDBOX_CACHE_DIR", str(Path.home() / ".cache" / "sandbox-control-plane")))

# --- Web and workers --------------------------------------------------------------------------------------------------
WEB_HOST = env.str("HOST", "127.0.0.1")
WEB_PORT = env.int("PORT", 8000)
WEB_PROCESSES = env.int("WEB_PROCESSES", 1)
WEB_THREADS = env.int("WEB_THREADS", 64)
# The part of the threads of a process that may wait or stream at one moment; beyond it `wait` answers at once.
WEB_WAIT_SHARE = env.float("WEB_WAIT_SHARE", 0.75)
LIFECYCLE_WORKERS = env.int("LIFECYCLE_WORKERS", 4)
COPY_WORKERS = env.int("COPY_WORKERS", 2)
# Seconds without a heartbeat, by the observer's own clock, after which a process counts as dead.
PROCESS_STALE_AFTER = env.float("PROCESS_STALE_AFTER", 6.0)

# --- Egress: what sandboxes of templates with an allowlist may take --------------------------------------------------------
# At a time: connections of one session, and of all.
EGRESS_SESSION_CONNECTIONS = env.int("EGRESS_SESSION_CONNECTIONS", 64)
EGRESS_CONNECTIONS = env.int("EGRESS_CONNECTIONS", 1024)
# Of one connection: bytes both ways together, and seconds without a byte.
EGRESS_CONNECTION_BYTES = env.int("EGRESS_CONNECTION_BYTES", 2**30)
EGRESS_IDLE_TIMEOUT = env.int("EGRESS_IDLE_TIMEOUT", 120)
# Beside private and other special addresses and those of this host. Name servers: the host's own where none is named.
EGRESS_REFUSED_NETWORKS: list[str] = env.list("EGRESS_REFUSED_NETWORKS", [])
EGRESS_NAMESERVERS: list[str] = env.list("EGRESS_NAMESERVERS", [])

# --- Django -----------------------------------------------------------------------------------------------------------
INSTALLED_APPS = [
    "sandbox_platform",
    "templates_app",
    "runtime",
    "sessions_app",
    "executions_app",
    "console",
    "console.apps.ConsoleAdminConfig",
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "django.contrib.sessions",
    "django.contrib.messages",
    "django.contrib.staticfiles",
    "rest_framework",
    "drf_spectacular",
    "drf_spectacular_sidecar",
    "django_q",
]
MIDDLEWARE = [
    "sandbox_platform.middleware.RequestIdMiddleware",
    "sandbox_platform.middleware.ErrorMiddleware",
    "django.middleware.security.SecurityMiddleware",
    "whitenoise.middleware.WhiteNoiseMiddleware",
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.middleware.csrf.CsrfViewMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
    "django.contrib.messages.middleware.MessageMiddleware",
    "django.middleware.clickjacking.XFrameOptionsMiddleware",
    "console.security.ContentSecurityPolicy",
]
ROOT_URLCONF = "sandbox_platform.urls"
WSGI_APPLICATION = "sandbox_platform.wsgi.application"
APPEND_SLASH = False
TEMPLATES = [
    {
        "BACKEND": "django.template.backends.django.DjangoTemplates",
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
AUTH_PASSWORD_VALIDATORS = [
    {"NAME": "django.contrib.auth.password_validation.UserAttributeSimilarityValidator"},
    {"NAME": "django.contrib.auth.password_validation.MinimumLengthValidator", "OPTIONS": {"min_length": 12}},
    {"NAME": "django.contrib.auth.password_validation.CommonPasswordValidator"},
]
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"
LANGUAGE_CODE = "en-us"
TIME_ZONE = "UTC"
USE_TZ = True
STATIC_URL = "/static/"
# Served straight from the packages: no collectstatic step for a service that one command starts.
STATIC_ROOT = None
WHITENOISE_USE_FINDERS = True
WHITENOISE_AUTOREFRESH = False

DATABASES = {
    "default": env.dj_db_url(
        "DATABASE_URL", f"sqlite:///{STATE_DIR / 'db.sqlite3'}", conn_max_age=None, conn_health_checks=False
    )
}
if DATABASES["default"]["ENGINE"].endswith("sqlite3"):
    DATABASES["default"]["OPTIONS"] = {
        "timeout": 20,
        "transaction_mode": "IMMEDIATE",
        "init_command": "PRAGMA journal_mode=WAL; PRAGMA synchronous=NORMAL; PRAGMA foreign_keys=ON;",
    }
else:
    # A database that is gone must be told within 5 s, and a statement must never hold a thread for ever.
    if DATABASES["default"]["ENGINE"] == "django.db.backends.postgresql":
        DATABASES["default"]["ENGINE"] = "sandbox_platform.postgresql"
        # For the statements of the hot path alone (direct.py). A pooler that gives each transaction another server must know prepared ones.
        DATABASES["default"].setdefault("OPTIONS", {}).setdefault("prepare_threshold", 1)
    DATABASES["default"]["CONN_HEALTH_CHECKS"] = True
    DATABASES["default"].setdefault("OPTIONS", {}).update(
        {
            "connect_timeout": 3,
            "options": "-c statement_timeout=15000 -c lock_timeout=10000",
            # A network that swallows everything is found within 10 s, by TCP itself. A Unix socket takes no notice.
            "tcp_user_timeout": 5000,
            "keepalives_idle": 5,
            "keepalives_interval": 2,
            "keepalives_count": 2,
        }
    )

# Carries wake-ups between processes instead of NOTIFY or datagrams. It holds nothing: rows remain the truth.
REDIS_URL = env.str("REDIS_URL", "")

STORAGES = {
    "default": {"BACKEND": "django.core.files.storage.FileSystemStorage"},
    "staticfiles": {"BACKEND": "django.contrib.staticfiles.storage.StaticFilesStorage"},
    "workspaces": storage_url.workspaces(env.str("WORKSPACE_STORAGE_URL", ""), STATE_DIR / "workspaces"),
}
FILE_UPLOAD_TEMP_DIR = str(STATE_DIR / "tmp")
Path(FILE_UPLOAD_TEMP_DIR).mkdir(exist_ok=True)
# Of the fields of a form, which are held in memory (`path` of an upload, the admin's). JSON and files are bounded where they
# are read: parsers.py, uploads.py.
DATA_UPLOAD_MAX_MEMORY_SIZE = 1024 * 1024

# The queue is a doorbell, the rows are the truth: every task is safe to repeat, and the ticker enqueues again what is due.
Q_CLUSTER = {
    "name": "sandbox",
    "broker_class": "sandbox_platform.broker.WakingBroker",
    "orm": "default",
    "workers": 1,
    "queue_limit": 1,
    "timeout": 240,
    "retry": 300,
    "save_limit": -1,
    "ack_failures": True,
    "max_attempts": 1,
    "recycle": 10**9,
    "catch_up": False,
    "scheduler": False,
    "guard_cycle": 0.5,
    "label": "Queue",
    "ALT_CLUSTERS": {
        "lifecycle": {"workers": LIFECYCLE_WORKERS, "queue_limit": LIFECYCLE_WORKERS},
        "runs": {"workers": 1, "queue_limit": 1, "timeout": 30, "retry": 60},
        "copies": {"workers": COPY_WORKERS, "queue_limit": COPY_WORKERS, "timeout": 900, "retry": 960},
        "builds": {"workers": 1, "queue_limit": 1, "timeout": 3600, "retry": 3700},
    },
}

REST_FRAMEWORK = {
    "DEFAULT_AUTHENTICATION_CLASSES": ["sandbox_platform.auth.BearerAuthentication"],
    "DEFAULT_PERMISSION_CLASSES": ["sandbox_platform.auth.HasScope"],
    "DEFAULT_PARSER_CLASSES": ["sandbox_platform.parsers.StrictJSONParser"],
    "DEFAULT_RENDERER_CLASSES": ["sandbox_platform.renderers.JSONRenderer"],
    "DEFAULT_SCHEMA_CLASS": "drf_spectacular.openapi.AutoSchema",
    "EXCEPTION_HANDLER": "sandbox_platform.errors.exception_handler",
    "UNAUTHENTICATED_USER": None,
    "UNAUTHENTICATED_TOKEN": None,
    "DATETIME_FORMAT": "%Y-%m-%dT%H:%M:%S.%fZ",
}
SPECTACULAR_SETTINGS = {
    "TITLE": "Sandbox Control Plane",
    "VERSION": "1.0.0",
    "DESCRIPTION": (
        "Send untrusted or AI-written code, run it in isolated sandboxes, fetch results that are never lost.\n\n"
        "Authenticate every request with `Authorization: Bearer <token>`."
    ),
    "SCHEMA_PATH_PREFIX": r"/api/v1",
    "SCHEMA_PATH_PREFIX_TRIM": False,
    "SERVE_INCLUDE_SCHEMA": False,
    "SERVE_AUTHENTICATION": [],
    "SERVE_PERMISSIONS": [],
    "SWAGGER_UI_DIST": "SIDECAR",
    "SWAGGER_UI_FAVICON_HREF": "SIDECAR",
    "REDOC_DIST": "SIDECAR",
    "SWAGGER_UI_SETTINGS": {"persistAuthorization": True, "deepLinking": True},
    "COMPONENT_SPLIT_REQUEST": True,
    "POSTPROCESSING_HOOKS": [
        "drf_spectacular.hooks.postprocess_schema_enums",
        "sandbox_platform.openapi_words.describe",
    ],
    "ENUM_ADD_EXPLICIT_BLANK_NULL_CHOICE": False,
    "ENUM_NAME_OVERRIDES": {
        "SessionStatus": "sessions_app.models.SessionStatus",
        "ExecutionStatus": "executions_app.models.ExecutionStatus",
        "ContainerStatus": "runtime.models.ContainerStatus",
    },
    "TAGS": [
        {"name": "sessions", "description": "A session is a sandbox of your own, for a time."},
        {"name": "executions", "description": "An execution is one run of code in a session."},
        {"name": "files", "description": "The workspace of a session."},
        {"name": "templates", "description": "A template describes the environment that sessions start from."},
        {"name": "containers", "description": "What exists on the engine for a session."},
    ],
}

LOG_LEVEL = env.str("LOG_LEVEL", "INFO")
# json for machines, console for people.
LOG_FORMAT = env.str("LOG_FORMAT", "json", validate=validate.OneOf(["json", "console"]))
LOGGING_CONFIG = None
from sandbox_platform.logs import configure  # noqa: E402

configure(LOG_LEVEL, LOG_FORMAT)
