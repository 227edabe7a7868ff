"""Structured logs: dotted event names with fields, JSON for machines, columns for people."""

import logging
import sys
from typing import Literal, TextIO

import structlog


def configure(log_format: Literal["console", "json"], level: str, stream: TextIO | None = None) -> None:
    """Sends every log line to `stream` (stderr by default)."""
    out = stream or sys.stderr
    renderer = (
        structlog.processors.JSONRenderer()
        if log_format == "json"
        else structlog.dev.ConsoleRenderer(
            colors=out.isatty(),
            pad_event_to=32,
            # The rich one prints local variables: prompts, and one day a key.
            exception_formatter=structlog.dev.plain_traceback,
        )
    )
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            *([structlog.processors.format_exc_info] if log_format == "json" else []),
            renderer,
        ],
        wrapper_class=structlog.make_filtering_bound_logger(logging.getLevelNamesMapping()[level.upper()]),
        logger_factory=structlog.PrintLoggerFactory(out),
        cache_logger_on_first_use=False,
    )
