"""`pytest tests/vectors --vectors DIR` (or VECTORS_DIR): run the cases of any directory."""

import pytest


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--vectors",
        metavar="DIR",
        default=None,
        help="directory of acceptance cases; the committed ones if not given",
    )
