"""The examples in the docstrings are true."""

import doctest
import importlib
import pkgutil

import pytest

import billing.rules

MODULES = sorted(
    module.name for module in pkgutil.walk_packages(billing.rules.__path__, "billing.rules.")
)


@pytest.mark.parametrize("name", MODULES)
def test_the_examples_of(name):
    module = importlib.import_module(name)
    assert doctest.testmod(module).failed == 0


def test_there_are_examples():
    finder = doctest.DocTestFinder(exclude_empty=True)
    modules = [importlib.import_module(name) for name in MODULES]
    assert sum(bool(test.examples) for m in modules for test in finder.find(m)) >= 20
