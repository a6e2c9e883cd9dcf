"""Price models."""

from decimal import Decimal
from typing import Any

from billing.rules import pricing
from billing.rules.money import quantize
from tests.vectors.vector_cases import Case

D = Decimal
BEFORE_ROUNDING = "before line rounding"


def _amount(exact: Any, case: Case, places: int = 2) -> Any:
    """Rounded as a line, unless the case compares what is rated before that."""
    return exact if BEFORE_ROUNDING in case.acceptance else quantize(exact, places)


def conversion(row: dict[str, Any] | None) -> pricing.Conversion | None:
    if row is None:
        return None
    return pricing.Conversion(
        row["operation"], D(row["factor"]), row.get("rounding"), int(row.get("precision") or 0)
    )


def price(inputs: dict[str, Any]) -> pricing.Price:
    params = inputs["params"]
    is_package = inputs["model"] == "package"
    return pricing.Price(
        model=inputs["model"],
        unit_price=D(params.get("package_price" if is_package else "unit_price") or 0),
        base_quantity=D(params["package_size"]) if is_package else D(1),
        tiers=pricing.tiers_from(params.get("tiers", ())),
        included=D(inputs.get("included") or 0),
        conversion=conversion(inputs.get("conversion")),
        flat=D(inputs.get("base_fee") or 0),
        tier_quantity=_optional(inputs.get("tier_quantity")),
    )


def _optional(value: Any) -> Decimal | None:
    return None if value is None else D(value)


def rate(inputs: dict[str, Any], case: Case) -> dict[str, Any]:
    stated = inputs["params"].get("amount") if inputs["model"] == "passthrough" else None
    billed = pricing.bill(
        price(inputs),
        D(stated or inputs.get("quantity") or 0),
        int(inputs.get("currency_decimals", 2)),
        prior_quantity=D(inputs.get("prior_quantity") or 0),
        prior_billed=D(inputs.get("prior_billed") or 0),
        discount_percent=D(inputs.get("discount_percent") or 0),
        minimum=_optional(inputs.get("minimum")),
        maximum=_optional(inputs.get("maximum")),
        final=inputs.get("final", True),
    )
    exact = BEFORE_ROUNDING in case.acceptance
    return {
        "amount": billed.rated.amount if exact else billed.amount,
        "packages": sum(step.quantity for step in billed.rated.steps),
        "quantity": billed.rated.quantity,
    }


def percentage(inputs: dict[str, Any], case: Case) -> dict[str, Any]:
    free = pricing.free_of(
        [D(units) for units in inputs.get("running_total") or ()],
        _optional(inputs.get("free_total")),
    )
    amount = pricing.percentage(
        D(inputs["units"]),
        int(inputs["events"]),
        D(inputs["rate"]),
        fixed=D(inputs.get("fixed_per_event") or 0),
        free=free,
    )
    return {"amount": _amount(amount, case)}


def percentage_events(inputs: dict[str, Any], case: Case) -> dict[str, Any]:
    amount = pricing.percentage_of_events(
        [D(units) for units in inputs["events"]],
        D(inputs["rate"]),
        fixed=D(inputs.get("fixed_per_event") or 0),
        free_events=int(inputs.get("free_events") or 0),
        free_total=_optional(inputs.get("free_total")),
        minimum=_optional(inputs.get("minimum")),
        maximum=_optional(inputs.get("maximum")),
    )
    return {"amount": _amount(amount, case)}


def block_tiers(inputs: dict[str, Any], case: Case) -> dict[str, Any]:
    tiers = [
        pricing.BlockTier(
            D(tier["block_size"]),
            D(tier["block_price"]),
            None if tier.get("max_blocks") is None else int(tier["max_blocks"]),
        )
        for tier in inputs["tiers"]
    ]
    quantity = D(inputs["quantity"])
    if inputs["mode"] == "top_tier":
        return {"amount": pricing.top_block(tiers, quantity)}
    amounts = pricing.blocks(tiers, quantity)
    return {"amount": sum(amounts), "tier_amounts": amounts}


def unit_conversion(inputs: dict[str, Any], case: Case) -> dict[str, Any]:
    return {"quantity": pricing.convert(D(inputs["quantity"]), conversion(inputs))}


def included_quantity(inputs: dict[str, Any], case: Case) -> dict[str, Any]:
    return {
        "billable": pricing.billable(
            D(inputs["quantity"]), D(inputs["included"]), D(inputs.get("prior_quantity") or 0)
        )
    }


def included_prorated(inputs: dict[str, Any], case: Case) -> dict[str, Any]:
    served, whole = inputs["proration"]
    billable, amount = pricing.beyond_included(
        D(inputs["quantity"]),
        D(inputs["included"]),
        pricing.part_of(served, whole),
        D(inputs["unit_price"]),
    )
    return {"billable": billable, "amount": _amount(amount, case)}


KINDS = {
    "rate": rate,
    "percentage": percentage,
    "percentage_events": percentage_events,
    "block_tiers": block_tiers,
    "unit_conversion": unit_conversion,
    "included_quantity": included_quantity,
    "included_prorated": included_prorated,
}
