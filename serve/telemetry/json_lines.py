# SPDX-License-Identifier: Apache-2.0
"""Lines of a log as JSON, with the ids of the request that they belong to."""

from __future__ import annotations

import json
import logging
import sys
from datetime import UTC, datetime

from opentelemetry import trace

from edgegen.serve.telemetry import context

ROOT = "edgegen"


class JsonLines(logging.Formatter):
    """Writes a record as one line of JSON: when, how grave, from where, what, and of which request and trace."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the line."""
        line: dict[str, object] = {
            "at": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
        }
        if (of_request := context.request_id.get()) is not None:
            line["request_id"] = of_request
        line |= ids_of(trace.get_current_span())
        if record.exc_info:
            line["exception"] = self.formatException(record.exc_info)
        return json.dumps(line, ensure_ascii=False)


def ids_of(span: trace.Span) -> dict[str, str]:
    """Return the ids of a span, as W3C writes them; nothing if it is none."""
    known = span.get_span_context()
    if not known.is_valid:
        return {}
    return {"trace_id": trace.format_trace_id(known.trace_id), "span_id": trace.format_span_id(known.span_id)}


def log_as_json() -> None:
    """Write what edgegen logs in this process to its standard output, a line of JSON each."""
    logger = logging.getLogger(ROOT)
    if not any(isinstance(handler.formatter, JsonLines) for handler in logger.handlers):
        handler = logging.StreamHandler(sys.stdout)
        handler.setFormatter(JsonLines())
        logger.addHandler(handler)
        logger.propagate = False
