"""Read acceptance cases from a directory; compare the answers of the rules with the expected."""

import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from decimal import Decimal, InvalidOperation
from fractions import Fraction
from pathlib import Path
from typing import Any

from billing.rules.money import quantize

CASES_DIR = Path(__file__).parent / "cases"


@dataclass(frozen=True)
class Case:
    """One case; `options` are the settings it must be reproduced with."""

    id: str
    area: str
    kind: str
    inputs: dict[str, Any]
    expected: dict[str, Any]
    assumptions: list[str]
    check: dict[str, Any]
    options: dict[str, str] = field(default_factory=dict)

    @property
    def acceptance(self) -> str:
        return self.check.get("acceptance") or "default"

    @property
    def is_reference(self) -> bool:
        return self.acceptance.startswith("reference")


def read_cases(directory: Path) -> Iterator[Case]:
    """Every case of the directory's JSON files, in order; other JSON files are passed over."""
    for path in sorted(directory.glob("*.json")):
        try:
            content = json.loads(path.read_text(encoding="utf-8"))
        except ValueError as error:
            raise ValueError(f"{path} is not JSON: {error}") from error
        rows = content if isinstance(content, list) else []
        for number, row in enumerate(rows):
            if not isinstance(row, dict) or "kind" not in row or "inputs" not in row:
                continue
            check = row.get("check") or {}
            yield Case(
                id=str(row.get("id") or f"{path.stem}-{number}"),
                area=str(row.get("area") or path.stem),
                kind=str(row["kind"]),
                inputs=row["inputs"],
                expected=row.get("expected") or {},
                assumptions=list(row.get("assumptions") or []),
                check=check,
                options=_options(check.get("acceptance") or ""),
            )


def _options(acceptance: str) -> dict[str, str]:
    """`option: a=1, b=2` as a mapping."""
    if not acceptance.startswith("option:"):
        return {}
    pairs = acceptance.removeprefix("option:").split(",")
    return {key.strip(): value.strip() for key, _, value in (pair.partition("=") for pair in pairs)}


def differences(expected: Any, actual: Any, path: str = "") -> list[str]:
    """Where `actual` is not what is expected. Numbers are compared as numbers, not as text.

    An actual mapping may say more than is expected. A fraction whose decimals never end is compared
    at the decimals that are expected.
    """
    if isinstance(expected, dict):
        if not isinstance(actual, dict):
            return [f"{path}: expected a mapping, got {actual!r}"]
        return [
            line
            for key, value in expected.items()
            for line in (
                differences(value, actual[key], f"{path}.{key}")
                if key in actual
                else [f"{path}.{key}: missing, expected {value!r}"]
            )
        ]
    if isinstance(expected, list):
        if not isinstance(actual, list) or len(actual) != len(expected):
            return [f"{path}: expected {expected!r}, got {actual!r}"]
        return [
            line
            for number, (one, other) in enumerate(zip(expected, actual, strict=True))
            for line in differences(one, other, f"{path}[{number}]")
        ]
    return [] if _same(expected, actual) else [f"{path}: expected {expected!r}, got {actual!s}"]


def _same(expected: Any, actual: Any) -> bool:
    if isinstance(expected, bool) or expected is None or isinstance(actual, bool):
        return expected is actual
    if isinstance(actual, Decimal | Fraction | int):
        number = _number(expected)
        if number is None:
            return False
        exact = Fraction(actual)
        if exact == Fraction(number):
            return True
        places = max(-int(number.as_tuple().exponent), 0)
        return _never_ends(exact) and quantize(exact, places) == number
    return str(expected) == str(actual)


def _number(text: Any) -> Decimal | None:
    try:
        return Decimal(str(text))
    except InvalidOperation:
        return None


def _never_ends(number: Fraction) -> bool:
    rest = number.denominator
    for prime in (2, 5):
        while rest % prime == 0:
            rest //= prime
    return rest != 1
