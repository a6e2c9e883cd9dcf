"""The demonstration, told once in a database of its own for all tests that only look at it."""

import secrets
from collections.abc import Iterator
from datetime import UTC, datetime

import pytest

AT = datetime(2026, 11, 24, 15, 40, tzinfo=UTC)


@pytest.fixture(scope="module")
def told(database_cluster, django_db_setup: None, django_db_blocker) -> Iterator[object]:
    """The demonstration as it stands at AT. A test that changes it rolls back."""
    from django.db import connections

    from billing import demo

    name = f"keter_demo_{secrets.token_hex(4)}"
    database_cluster.clone(name)
    default = connections.settings["default"]
    before = default["NAME"]
    with django_db_blocker.unblock():
        connections["default"].close()
        default["NAME"] = name
        try:
            yield demo.create(AT)
        finally:
            connections["default"].close()
            default["NAME"] = before
    database_cluster.drop(name)
