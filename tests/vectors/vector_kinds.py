"""One adapter per kind: words and shapes of the case in, a call of the rules, words out.

No arithmetic happens here; what a kind means is decided in `billing.rules`.
"""

from collections.abc import Callable
from typing import Any

from tests.vectors import kinds_credits, kinds_payments, kinds_prices, kinds_proration, kinds_totals
from tests.vectors.vector_cases import Case

Adapter = Callable[[dict[str, Any], Case], dict[str, Any]]

KINDS: dict[str, Adapter] = {
    **kinds_credits.KINDS,
    **kinds_payments.KINDS,
    **kinds_prices.KINDS,
    **kinds_proration.KINDS,
    **kinds_totals.KINDS,
}
OPTIONS = {
    "proration.day_count",
    "tax.rounding",
    "tax.rounding_mode",
    "einvoice.receive_vat_tolerance",
}
# What a kind that is not built yet is about; every kind of the committed cases is.
SUBJECTS: dict[str, str] = {}
