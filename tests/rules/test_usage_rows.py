"""Rows become facts, or are refused with field, reason and remedy; nothing is guessed."""

from datetime import UTC, datetime
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from billing.rules.usage_rows import (
    MAPPINGS,
    QUANTITY_MAX,
    Row,
    RowRefusedError,
    fingerprint,
    read_genai,
    read_plain,
)

GENAI = {
    "gmt_create": "2024-11-15 16:57:50",
    "predict_type": "TXT_2_IMG",
    "predict_status": "SUCCEED",
    "groupId": "G0001",
    "num_images_per_prompt": "2.0",
    "num_inference_steps": "25.0",
    "checkpoint_model_version_id": "M0001",
    "num_lora": "1",
}
PLAIN = {"customer": "C-1", "occurred_at": "2026-11-05T10:00:00", "quantity": "12.5", "key": "a"}


@pytest.mark.parametrize(
    ("images", "steps", "loras", "units"),
    [
        ("1", "30", "0", "3"),
        ("2.0", "25.0", "1", "7.5"),
        ("1", "1", "0", "1"),
        ("1", "10", "0", "1"),
        ("1", "11", "0", "2"),
        ("4", "20", "3", "14"),
        ("1", "0", "0", "0"),
        ("3", "30", "", "9"),
    ],
)
def test_units_are_images_times_started_tens_of_steps_times_loras(images, steps, loras, units):
    row = read_genai(
        GENAI | {"num_images_per_prompt": images, "num_inference_steps": steps, "num_lora": loras}
    )
    assert row.quantity == Decimal(units)


@pytest.mark.parametrize("field", ["num_images_per_prompt", "num_inference_steps"])
def test_a_row_without_size_has_no_quantity(field):
    assert read_genai(GENAI | {field: ""}).quantity is None


@pytest.mark.parametrize(
    ("status", "stage"),
    [("SUCCEED", "done"), ("PENDING", "open"), ("PROCESSING", "open"), ("FAILED", "failed")],
)
def test_the_status_is_a_stage(status, stage):
    assert read_genai(GENAI | {"predict_status": status}).stage == stage


def test_a_plain_row_is_read():
    row = read_plain(PLAIN)
    assert row == Row(
        "C-1", datetime(2026, 11, 5, 10, tzinfo=UTC), Decimal("12.5"), "done", key="a"
    )


@pytest.mark.parametrize(
    ("text", "hour"),
    [
        ("2026-11-05T10:00:00Z", 10),
        ("2026-11-05T10:00:00+02:00", 8),
        ("2026-11-05 10:00:00", 10),
    ],
)
def test_times_become_utc(text, hour):
    assert read_plain(PLAIN | {"occurred_at": text}).occurred_at.hour == hour


HOSTILE_NUMBERS = [
    "NaN", "Infinity", "-1", "1e400", "1_000", "１２", "1,5", "0x10", "=1+1", "1.0000001",
    "1" * 13, " ", "--1", "1 2", "\u0661", "+5", ".5", "5.", "−5",
]  # fmt: skip


@pytest.mark.parametrize("text", HOSTILE_NUMBERS)
def test_what_only_looks_like_a_number_is_refused(text):
    with pytest.raises(RowRefusedError) as refusal:
        read_plain(PLAIN | {"quantity": text})
    assert refusal.value.column == "quantity"
    assert refusal.value.reason
    assert refusal.value.remedy


@pytest.mark.parametrize(
    ("field", "text"),
    [
        ("occurred_at", ""),
        ("occurred_at", "yesterday"),
        ("occurred_at", "2026-13-01"),
        ("occurred_at", "2026-02-30 00:00:00"),
        ("occurred_at", "0001-01-01T00:00:00+14:00"),
        ("occurred_at", "9999-12-31T23:59:59-14:00"),
        ("occurred_at", "1970-01-01"),
        ("occurred_at", "2999-01-01"),
        ("customer", ""),
        ("customer", "=HYPERLINK(1)"),
        ("customer", "C 1"),
        ("customer", "../x"),
        ("customer", "x" * 41),
        ("customer", "C\u00001"),
        ("key", ""),
        ("key", "x" * 101),
        ("quantity", str(QUANTITY_MAX)),
    ],
)
def test_hostile_fields_are_refused_by_name(field, text):
    with pytest.raises(RowRefusedError) as refusal:
        read_plain(PLAIN | {field: text})
    assert refusal.value.column == field


@pytest.mark.parametrize(
    ("field", "text"),
    [
        ("predict_status", "DONE"),
        ("num_images_per_prompt", "1.5"),
        ("num_inference_steps", "-10"),
        ("num_images_per_prompt", "999999999999"),
        ("groupId", "a b"),
        ("gmt_create", "x"),
    ],
)
def test_a_trace_row_is_refused_by_field(field, text):
    with pytest.raises(RowRefusedError) as refusal:
        read_genai(GENAI | {field: text})
    assert refusal.value.column == field


@given(st.fixed_dictionaries({name: st.text(max_size=30) for name in GENAI}))
def test_any_text_is_read_or_refused(values):
    for mapping, template in ((MAPPINGS["genai"], GENAI), (MAPPINGS["plain"], PLAIN)):
        row = template | {k: v for k, v in values.items() if k in template}
        try:
            found = mapping.read(row)
        except RowRefusedError:
            continue
        assert found.quantity is None or 0 <= found.quantity < QUANTITY_MAX
        assert found.occurred_at.tzinfo is UTC


def test_equal_rows_have_one_fingerprint_and_others_another():
    assert fingerprint(GENAI) == fingerprint(dict(GENAI))
    assert len(fingerprint(GENAI)) == 64
    seen = {fingerprint(GENAI | {name: value + "x"}) for name, value in GENAI.items()}
    assert len(seen | {fingerprint(GENAI)}) == len(GENAI) + 1


def test_a_value_cannot_pretend_to_be_the_next_column():
    assert fingerprint({"a": "1", "b": "2"}) != fingerprint({"a": "1\x1fb=2"})
