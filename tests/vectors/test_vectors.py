"""Acceptance: the figures of peers and of EN 16931, case by case, against the rules."""

import os
from pathlib import Path

import pytest

from tests.vectors.vector_cases import CASES_DIR, Case, differences, read_cases
from tests.vectors.vector_kinds import KINDS, OPTIONS, SUBJECTS


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "case" not in metafunc.fixturenames:
        return
    chosen = metafunc.config.getoption("vectors", default=None) or os.environ.get("VECTORS_DIR")
    directory = Path(chosen) if chosen else CASES_DIR
    if not directory.is_dir():
        raise pytest.UsageError(f"--vectors: there is no directory {directory}")
    try:
        cases = list(read_cases(directory))
    except ValueError as error:
        raise pytest.UsageError(f"--vectors: {error}") from error
    if not cases:
        raise pytest.UsageError(f"--vectors: no cases in {directory}")
    metafunc.parametrize("case", cases, ids=[f"{case.area}-{case.id}" for case in cases])


def test_the_rules_give_the_expected_figures(case: Case) -> None:
    if case.is_reference:
        pytest.skip("reference")
    if case.kind not in KINDS:
        pytest.xfail(f"not built yet: {SUBJECTS.get(case.kind, case.kind)}")
    if unknown := case.options.keys() - OPTIONS:
        pytest.xfail(f"not built yet: option {', '.join(sorted(unknown))}")
    actual = KINDS[case.kind](case.inputs, case)
    wrong = differences(case.expected, actual)
    assert not wrong, "\n".join([f"{case.kind}: {case.inputs}", *wrong])
