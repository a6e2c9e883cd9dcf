"""The house the pages are tested in."""

from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from tests.admin.house import House


@pytest.fixture
def furnished(db: None) -> "House":
    """Three customers with a billed month."""
    from tests.admin import house

    return house.build()
