"""What the document tests share."""

from collections.abc import Callable, Mapping
from typing import Any

import pytest

Draw = Callable[[Mapping[str, Any]], bytes]


@pytest.fixture(scope="session")
def draw() -> Draw:
    """Draws in this process: quick, and a failure shows its own traceback."""
    from billing.paper import engine

    engine.warm()
    return engine.draw
