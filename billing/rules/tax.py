"""Which VAT category a sale falls under, where its rate comes from, and why.

A person's tax adviser signs the settings; `review` marks the answers that need one. Rates are
dated rows handed in by the caller.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import date
from decimal import Decimal
from typing import Final, Literal

Category = Literal["S", "Z", "E", "AE", "K", "G", "O"]

_EU: Final = "AT BE BG CY CZ DE DK EE ES FI FR GR HR HU IE IT LT LU LV MT NL PL PT RO SE SI SK"
EU: Final = frozenset(_EU.split())
DISTANCE_THRESHOLD: Final = Decimal(10000)  # EUR without VAT, this and last calendar year

# What the document says for each reason; a key of the message catalogues, in English here.
REASONS: Final = {
    "": "",
    "reverse_charge": "Reverse charge: VAT is to be accounted for by the recipient.",
    "outside_eu": "Not subject to EU VAT: the place of supply is outside the European Union.",
    "outside_scope": "Outside the scope of VAT in the seller's country.",
    "small_business": "Exempt from VAT under the scheme for small enterprises.",
    "intra_community": "Intra-community supply of goods, exempt from VAT.",
    "export": "Export of goods outside the European Union, exempt from VAT.",
}
_CODES: Final = {
    "reverse_charge": "VATEX-EU-AE",
    "outside_eu": "VATEX-EU-O",
    "intra_community": "VATEX-EU-IC",
    "export": "VATEX-EU-G",
}


@dataclass(frozen=True, slots=True)
class Seller:
    """What the decision needs to know of a legal entity."""

    country: str
    registered_in: frozenset[str] = frozenset()  # other countries it has a VAT number of
    small_business: bool = False
    one_stop_shop: bool = False  # files OSS, or chose to tax at the customer's place


@dataclass(frozen=True, slots=True)
class Buyer:
    """What the decision needs to know of a customer, at the tax point."""

    country: str
    is_business: bool
    vat_id_valid: bool = False  # judged at the tax point


@dataclass(frozen=True, slots=True)
class Decision:
    """The tax treatment of a sale."""

    category: Category
    rate_country: str | None  # whose dated rates apply; None means 0 %
    reason: str  # a key of REASONS, empty when nothing needs saying
    reason_code: str  # VATEX code, empty where the list has none
    review: bool = False  # an adviser should confirm it

    @property
    def reason_text(self) -> str:
        """The reason in English."""
        return REASONS[self.reason]


@dataclass(frozen=True, slots=True)
class Rate:
    """A country's rate over `[valid_from, valid_until)`; in percent."""

    country: str
    rate: Decimal
    valid_from: date
    valid_until: date | None = None
    label: str = "standard rate"


def decide(seller: Seller, buyer: Buyer, *, distance_sales: Decimal = Decimal(0)) -> Decision:
    """The treatment of a service sold by `seller` to `buyer`.

    distance_sales: EUR without VAT sold to consumers of other EU countries this or last calendar
    year, whichever is higher, this sale included: the sale that passes the threshold turns.

    >>> decide(Seller("IE"), Buyer("DE", is_business=True, vat_id_valid=True)).category
    'AE'
    """
    if seller.small_business:
        return _exempt("E", "small_business")
    if buyer.country == seller.country or buyer.country in seller.registered_in:
        return _taxed(buyer.country)
    if seller.country not in EU:
        return _exempt("O", "outside_scope", review=True)
    if buyer.country not in EU:
        return _exempt("O", "outside_eu", review=not buyer.is_business)
    if buyer.is_business and buyer.vat_id_valid:
        return _exempt("AE", "reverse_charge")
    at_destination = seller.one_stop_shop or distance_sales > DISTANCE_THRESHOLD
    return _taxed(buyer.country if at_destination else seller.country)


def rate_on(
    rates: Iterable[Rate], country: str, day: date, *, label: str = "standard rate"
) -> Decimal | None:
    """The rate in force on a day, in percent; None when no row covers it.

    >>> rows = [Rate("IE", Decimal(23), date(2021, 3, 1))]
    >>> rate_on(rows, "IE", date(2026, 11, 30))
    Decimal('23')
    """
    for row in rates:
        covers = row.valid_from <= day and (row.valid_until is None or day < row.valid_until)
        if row.country == country and row.label == label and covers:
            return row.rate
    return None


def _taxed(country: str) -> Decision:
    return Decision("S", country, "", "")


def _exempt(category: Category, reason: str, *, review: bool = False) -> Decision:
    return Decision(category, None, reason, _CODES.get(reason, ""), review)
