"""The house the pages are tested in."""

from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from tests.admin.house import House


@pytest.fixture(autouse=True)
def _nothing_kept() -> None:
    """Charts kept from an earlier test would tell of its house."""
    from django.core.cache import cache

    cache.clear()


@pytest.fixture
def furnished(db: None) -> "House":
    """Three customers with a billed month."""
    from tests.admin import house

    return house.build()
