"""Rows of usage files: read strictly, refused kindly."""

from datetime import UTC, datetime
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from billing.rules.usage_rows import RowRefusedError, fingerprint, read_genai, read_plain

ROW = {
    "gmt_create": "2024-11-15 16:57:50", "predict_type": "TXT_TO_IMG", "predict_status": "SUCCEED",
    "groupId": "4711", "num_images_per_prompt": "4", "num_inference_steps": "25",
    "checkpoint_model_version_id": "9", "num_lora": "2",
}  # fmt: skip


def test_units_are_images_times_tens_of_steps_times_loras():
    row = read_genai(ROW)
    assert row.quantity == Decimal(4 * 3) * Decimal("1.5")
    assert row.occurred_at == datetime(2024, 11, 15, 16, 57, 50, tzinfo=UTC)
    assert (row.stage, row.customer_code) == ("done", "4711")


@given(st.integers(0, 99), st.integers(0, 999), st.integers(0, 9))
def test_the_explanation_gives_the_quantity(images, steps, loras):
    row = read_genai(
        ROW
        | {
            "num_images_per_prompt": str(images),
            "num_inference_steps": f"{steps}.0",
            "num_lora": str(loras),
        }
    )
    told = {key: Decimal(row.explanation[key]) for key in ("images", "tens_of_steps", "loras")}
    expected = told["images"] * told["tens_of_steps"] * (1 + told["loras"] / 4)
    assert row.quantity == Decimal(row.explanation["units"]) == expected
    assert told["tens_of_steps"] == -(-steps // 10)


@pytest.mark.parametrize(
    ("status", "stage"), [("PENDING", "open"), ("PROCESSING", "open"), ("FAILED", "failed")]
)
def test_a_status_says_how_far_it_is(status, stage):
    assert read_genai(ROW | {"predict_status": status}).stage == stage


def test_a_row_without_size_has_no_quantity():
    assert read_genai(ROW | {"num_inference_steps": ""}).quantity is None


@pytest.mark.parametrize(
    ("column", "value"),
    [
        ("predict_status", "DONE"),
        ("gmt_create", "yesterday"),
        ("groupId", "a b"),
        ("groupId", "../x"),
        ("num_images_per_prompt", "NaN"),
        ("num_images_per_prompt", "1_000"),
        ("num_images_per_prompt", "-1"),
        ("num_images_per_prompt", "1.5"),
        ("num_inference_steps", "1e3"),
        ("num_lora", "٣"),
    ],
)
def test_a_row_that_cannot_be_read_says_which_field_and_what_to_do(column, value):
    with pytest.raises(RowRefusedError) as refused:
        read_genai(ROW | {column: value})
    assert refused.value.column == column
    assert refused.value.reason
    assert refused.value.remedy


def test_a_plain_row_brings_its_own_key():
    at = "2024-11-15T10:00:00+02:00"
    values = {"customer": "C-1", "occurred_at": at, "quantity": "1.25", "key": "k"}
    assert read_plain(values).occurred_at == datetime(2024, 11, 15, 8, tzinfo=UTC)
    for column, value in (("key", ""), ("quantity", ""), ("key", "x" * 101)):
        with pytest.raises(RowRefusedError):
            read_plain(values | {column: value})


def test_a_fingerprint_tells_rows_apart():
    assert fingerprint(ROW) == fingerprint(dict(ROW))
    assert fingerprint({"a": "1", "b": ""}) != fingerprint({"a": "", "b": "1"})
