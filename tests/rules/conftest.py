"""Properties of the rules: no database, no settings, no clock."""

import pytest


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "calendar: every month end, zone and year, one by one")
