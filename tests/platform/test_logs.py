"""Logs say what happened, and not to whom."""

import json
import logging
import sys
from types import SimpleNamespace

import pytest

from config.logs import JsonFormatter, LineFormatter, masked


@pytest.mark.parametrize(
    ("text", "secret"),
    [
        ("mail to ann.lee+x@example.co.uk failed", "ann.lee"),
        ("paid from DE89 3704 0044 0532 0130 00", "3704"),
        ("paid from GB82WEST12345698765432", "WEST12345698765432"),
        ("VAT DE123456789 refused", "123456789"),
        ("VAT ATU12345678 refused", "12345678"),
        ("login password=hunter2&next=/", "hunter2"),
        ("connect postgres://app:s3cret@db/keter", "s3cret"),
    ],
)
def test_what_identifies_somebody_is_masked(text, secret):
    assert secret not in masked(text)
    assert text.split()[0] in masked(text)


@pytest.mark.parametrize(
    "text", ["invoice TI-2026-00418 issued", "customer 4247 parked", "amount 1234567.89 EUR"]
)
def test_numbers_of_our_own_stay_readable(text):
    assert masked(text) == text


def record(message: str, *arguments: object, **extra: object) -> logging.LogRecord:
    made = logging.LogRecord("keter", logging.INFO, "x.py", 1, message, arguments, None)
    made.__dict__.update(extra)
    return made


def test_a_value_cannot_forge_a_second_line():
    line = JsonFormatter().format(record("name %s", "x\r\n2026 INFO paid\u2028more"))
    assert len(line.splitlines()) == 1
    assert "\r" not in LineFormatter("%(message)s").format(record("name %s", "x\rpaid"))


def test_json_carries_the_ids_of_request_and_person_and_no_more():
    person = SimpleNamespace(pk=7, email="ann@example.org")
    request = SimpleNamespace(request_id="abc", _cached_user=person)
    event = json.loads(JsonFormatter().format(record("done", request=request, status_code=500)))
    assert (event["request_id"], event["user_id"], event["status"]) == ("abc", 7, 500)
    assert event["at"].endswith("Z")
    assert "ann" not in json.dumps(event)


def test_a_traceback_is_masked_too():
    try:
        raise ValueError("no mail to ann@example.org")
    except ValueError:
        made = record("failed")
        made.exc_info = sys.exc_info()
    assert "ann@" not in JsonFormatter().format(made)
