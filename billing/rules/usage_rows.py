"""Rows of usage files become facts: each mapping says how one kind of file is read.

A row that cannot be read is refused with the field, what is wrong and how to mend it; nothing is
guessed. Numbers are read by a strict pattern, because `Decimal` also takes NaN and underscores.
"""

import hashlib
import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from decimal import Decimal
from typing import Final, Literal

from billing.rules.money import plain

Stage = Literal["done", "open", "failed"]
_NUMBER: Final = re.compile(r"-?[0-9]{1,12}(\.[0-9]{1,6})?")
QUANTITY_MAX: Final = Decimal(10) ** 11  # metered units of one row; the books hold 14 digits
YEARS: Final = range(2000, 2100)
_CODE: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,39}")


class RowRefusedError(ValueError):
    """A row that cannot be read: which field, why, and what to do."""

    def __init__(self, column: str, reason: str, remedy: str) -> None:
        self.column, self.reason, self.remedy = column, reason, remedy
        super().__init__(f"{column}: {reason} {remedy}")


@dataclass(frozen=True, slots=True)
class Row:
    """One fact of use read from a file. `quantity` is in metered units, None when unknown."""

    customer_code: str
    occurred_at: datetime
    quantity: Decimal | None
    stage: Stage
    key: str = ""  # empty: the file has no id, the row's own hash stands in
    dimensions: Mapping[str, str] = field(default_factory=dict)
    explanation: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class FileMapping:
    """How one kind of file is read: the columns it must have, and what a row means."""

    name: str
    meter: str
    columns: tuple[str, ...]
    read: Callable[[Mapping[str, str]], Row]


def fingerprint(values: Mapping[str, str]) -> str:
    """The sha256 of a row, over its columns and values in the file's order."""
    text = json.dumps(list(values.items()), ensure_ascii=False)
    return hashlib.sha256(text.encode()).hexdigest()


def read_genai(values: Mapping[str, str]) -> Row:
    """A request of the public image-generation trace.

    Units are images × ceil(steps / 10) × (1 + 0.25 × LoRAs). What is PENDING or PROCESSING is
    under way; FAILED costs nothing. `gmt_create` is in UTC.
    """
    status = values["predict_status"]
    stages: Mapping[str, Stage] = {
        "SUCCEED": "done",
        "PENDING": "open",
        "PROCESSING": "open",
        "FAILED": "failed",
    }
    if status not in stages:
        raise RowRefusedError(
            "predict_status", f"“{status}” is not known.", f"Use one of {', '.join(stages)}."
        )
    images = _whole(values, "num_images_per_prompt")
    steps = _whole(values, "num_inference_steps")
    loras = _whole(values, "num_lora")
    quantity = None
    explanation: dict[str, str] = {}
    if images is not None and steps is not None:
        blocks = -(-steps // 10)
        quantity = images * blocks * (1 + Decimal("0.25") * (loras or 0))
        _check_size(quantity, "num_images_per_prompt")
        explanation = {
            "formula": "images × started tens of steps × (1 + 0.25 × LoRAs)",
            "images": str(images),
            "tens_of_steps": str(blocks),
            "loras": str(loras or 0),
            "units": plain(quantity),
        }
    return Row(
        customer_code=_code(values, "groupId"),
        occurred_at=_instant(values, "gmt_create"),
        quantity=quantity,
        stage=stages[status],
        dimensions={
            "type": values["predict_type"],
            "model": values["checkpoint_model_version_id"],
            "status": status,
        },
        explanation=explanation,
    )


def read_plain(values: Mapping[str, str]) -> Row:
    """A row with customer, time, quantity and a key of its own."""
    quantity = _number(values, "quantity")
    if quantity is None:
        raise RowRefusedError("quantity", "It is empty.", "Give the metered units.")
    _check_size(quantity, "quantity")
    if not values["key"] or len(values["key"]) > 100:
        raise RowRefusedError("key", "It is empty or too long.", "Give up to 100 characters.")
    return Row(
        customer_code=_code(values, "customer"),
        occurred_at=_instant(values, "occurred_at"),
        quantity=quantity,
        stage="done",
        key=values["key"],
    )


MAPPINGS: Final[Mapping[str, FileMapping]] = {
    mapping.name: mapping
    for mapping in (
        FileMapping(
            "genai",
            "image-generation",
            (
                "gmt_create",
                "predict_type",
                "predict_status",
                "groupId",
                "num_images_per_prompt",
                "num_inference_steps",
                "checkpoint_model_version_id",
                "num_lora",
            ),
            read_genai,
        ),
        FileMapping(
            "plain", "image-generation", ("customer", "occurred_at", "quantity", "key"), read_plain
        ),
    )
}


def _code(values: Mapping[str, str], column: str) -> str:
    if not _CODE.fullmatch(values[column]):
        raise RowRefusedError(
            column,
            f"“{values[column][:40]}” is not a customer number.",
            "Use letters, digits, dot, dash and underscore, at most 40.",
        )
    return values[column]


def _instant(values: Mapping[str, str], column: str) -> datetime:
    try:
        instant = datetime.fromisoformat(values[column])
        instant = instant.replace(tzinfo=UTC) if instant.tzinfo is None else instant.astimezone(UTC)
    except (ValueError, OverflowError) as error:
        raise RowRefusedError(
            column,
            f"“{values[column][:40]}” is not a time.",
            "Write it like 2024-11-15 16:57:50, in UTC.",
        ) from error
    if instant.year not in YEARS:
        raise RowRefusedError(
            column, f"{instant:%Y} is not a year of business.", "Give the time it happened."
        )
    return instant


def _check_size(quantity: Decimal, column: str) -> None:
    if quantity >= QUANTITY_MAX:
        raise RowRefusedError(
            column, f"{quantity:.0f} units are too many.", f"Give fewer than {QUANTITY_MAX:.0f}."
        )


def _number(values: Mapping[str, str], column: str) -> Decimal | None:
    text = values[column].strip()
    if not text:
        return None
    if not _NUMBER.fullmatch(text):
        raise RowRefusedError(
            column, f"“{text[:40]}” is not a number.", "Use digits and one point, such as 12.5."
        )
    number = Decimal(text)
    if number < 0:
        raise RowRefusedError(column, f"{text} is negative.", "Use zero or more.")
    return number


def _whole(values: Mapping[str, str], column: str) -> int | None:
    number = _number(values, column)
    if number is None:
        return None
    if number != int(number):
        raise RowRefusedError(column, f"{number} is not a whole number.", "Round it at the source.")
    return int(number)
