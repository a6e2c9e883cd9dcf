"""Logs: one event a line, in UTC, without what identifies a person or an account.

LOG_FORMAT=json (default) is for machines; LOG_FORMAT=line, which `serve` uses, for eyes.
"""

import json
import logging
import re
import time
from typing import Any, Final

# What must not reach a log: addresses of people, bank accounts, tax numbers, secrets in URLs.
_COUNTRIES: Final = (
    "AT|BE|BG|CY|CZ|DE|DK|EE|EL|ES|FI|FR|GB|HR|HU|IE|IT|LT|LU|LV|MT|NL|PL|PT|RO|SE|SI|SK"
)
_SECRETS: Final = "password|passwd|secret|token|key|sid|csrf"
_MASKS: Final = (
    (re.compile(r"[\w.+-]+@[\w-]+\.[\w.-]+"), "[e-mail]"),
    (re.compile(r"\b[A-Z]{2}\d{2}(?: ?[A-Z0-9]{4}){3,7}(?: ?[A-Z0-9]{1,3})?\b"), "[IBAN]"),
    (re.compile(rf"\b(?:{_COUNTRIES})[A-Z0-9]{{0,2}}\d{{7,11}}[A-Z]{{0,2}}\b"), "[tax id]"),
    (re.compile(rf"(?i)\b({_SECRETS})(=|:\s?)[^\s&,;]+"), r"\1\2[secret]"),
    (re.compile(r"(?<=://)[^/@\s]+@"), "[login]@"),
)
_CONTROL: Final = re.compile(r"[\x00-\x08\x0b-\x1f\x7f\u2028\u2029]")


def masked(text: str) -> str:
    """`text` without personal data and without characters that could forge another line."""
    for pattern, instead in _MASKS:
        text = pattern.sub(instead, text)
    return _CONTROL.sub(lambda found: f"\\x{ord(found[0]):02x}", text)


class LineFormatter(logging.Formatter):
    """For eyes: time in UTC, level, logger, message; a traceback keeps its lines."""

    converter = time.gmtime  # type: ignore[assignment]

    def format(self, record: logging.LogRecord) -> str:
        """One event, masked."""
        return masked(super().format(record))


class JsonFormatter(logging.Formatter):
    """For machines: one JSON object a line, with the request's id and the person's, if known."""

    converter = time.gmtime  # type: ignore[assignment]

    def format(self, record: logging.LogRecord) -> str:
        """One event, masked."""
        event: dict[str, Any] = {
            "at": self.formatTime(record, "%Y-%m-%dT%H:%M:%S") + f".{record.msecs:03.0f}Z",
            "level": record.levelname,
            "logger": record.name,
            "message": masked(record.getMessage()),
        }
        request = getattr(record, "request", None)
        if request is not None:
            event["request_id"] = getattr(request, "request_id", None)
            # The id only, and only where it is known already: a log line asks no database.
            user = getattr(request, "_cached_user", None)
            event["user_id"] = getattr(user, "pk", None)
        if hasattr(record, "status_code"):
            event["status"] = record.status_code
        if record.exc_info:
            event["traceback"] = masked(self.formatException(record.exc_info))
        return json.dumps(event, ensure_ascii=False)
