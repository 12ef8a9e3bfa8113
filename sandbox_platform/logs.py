"""JSON log lines with the request id in each, from the web tier and the workers alike."""

from __future__ import annotations

import logging
import logging.config
from typing import Any

import structlog


def configure(level: str, form: str) -> None:
    """Send structlog and the standard library's loggers through one formatter to stderr. `form` is json or console."""
    shared: list[Any] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.stdlib.add_logger_name,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        structlog.processors.format_exc_info,
    ]
    renderer = structlog.processors.JSONRenderer() if form == "json" else structlog.dev.ConsoleRenderer(colors=False)
    logging.config.dictConfig(
        {
            "version": 1,
            "disable_existing_loggers": False,
            "formatters": {
                "line": {
                    "()": structlog.stdlib.ProcessorFormatter,
                    "foreign_pre_chain": shared,
                    "processors": [structlog.stdlib.ProcessorFormatter.remove_processors_meta, renderer],
                }
            },
            "handlers": {"stderr": {"class": "logging.StreamHandler", "formatter": "line"}},
            "root": {"handlers": ["stderr"], "level": level},
            "loggers": {
                # One line per task is noise: failures are logged all the same.
                "django-q": {"level": "WARNING"},
                "urllib3": {"level": "WARNING"},
                "docker": {"level": "WARNING"},
                # Our own access line says more.
                "django.server": {"level": "WARNING"},
                "django.request": {"level": "CRITICAL"},
            },
        }
    )
    structlog.configure(
        processors=[*shared, structlog.stdlib.ProcessorFormatter.wrap_for_formatter],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.stdlib.BoundLogger,
        cache_logger_on_first_use=True,
    )
