"""A customer of its own for every test of the ledger: what a test commits stays."""

from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from tests.ledger.desk import Desk


@pytest.fixture
def desk(transactional_db: None) -> "Desk":
    """A new customer's doors."""
    from tests.ledger.desk import Desk, new_customer

    return Desk(new_customer())
