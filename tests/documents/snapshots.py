"""Snapshots to draw: invented parties, public test IBANs."""

import copy
from decimal import Decimal
from typing import Any

SELLER = {
    "code": "TI",
    "name": "Tidewater Imaging",
    "legal_name": "Tidewater Imaging Limited",
    "street": "14 Harbour Row",
    "postal_code": "D02 XY00",
    "city": "Dublin",
    "region": "",
    "country": "IE",
    "vat_id": "IE1234567FA",
    "registration": "Company no. 612345, registered in Ireland",
    "directors": "Aoife Ní Bhriain, Tunde Okafor (Nigeria)",
    "email": "billing@tidewater.example",
    "phone": "+353 20 910 0100",
    "iban": "IE29AIBK93115212345678",
    "bic": "AIBKIE2D",
    "bank_name": "",
    "accent": "#0b5563",
    "footer": "",
}
GERMAN_SELLER = SELLER | {
    "code": "TD",
    "legal_name": "Tidewater Imaging GmbH",
    "street": "Kaistraße 8",
    "postal_code": "20457",
    "city": "Hamburg",
    "country": "DE",
    "vat_id": "DE136695976",
    "registration": "Amtsgericht Hamburg, HRB 123456",
    "directors": "Dr. Ada Lindqvist, Jonas Weidenfeller",
    "email": "rechnung@tidewater.example",
    "phone": "+49 40 555 0100",
    "iban": "DE02120300000000202051",
    "bic": "BYLADEM1001",
    "accent": "#6b2444",
}
BUYER = {
    "code": "C-10427",
    "name": "Fernwood Studios Limited",
    "attention": "Accounts payable, Niamh Doherty",
    "street": "7 Orchard Lane",
    "postal_code": "T12 AB00",
    "city": "Cork",
    "region": "",
    "country": "IE",
    "vat_id": "IE9876543H",
    "purchase_order": "PO-77120",
    "buyer_reference": "Cost centre 4110",
    "contract": "Studio, from 1 March 2026",
}
NOVEMBER = ("2026-11-01", "2026-12-01")
DECEMBER = ("2026-12-01", "2027-01-01")


def line(
    position: int,
    description: str,
    *,
    quantity: str = "1",
    unit: str = "month",
    price: str = "10.00",
    base: str = "1",
    net: str = "10.00",
    detail: str = "",
    span: tuple[str, str] = NOVEMBER,
    category: str = "S",
    rate: str = "23",
) -> dict[str, Any]:
    """One line as the snapshot keeps it."""
    return {
        "position": position,
        "description": description,
        "detail": detail,
        "period_from": span[0],
        "period_to": span[1],
        "quantity": quantity,
        "unit": unit,
        "unit_price": price,
        "base_quantity": base,
        "tax_category": category,
        "tax_rate": rate,
        "net": net,
    }


def group(category: str, rate: str, taxable: str, tax: str, **reason: str) -> dict[str, Any]:
    """One VAT group."""
    return {
        "category": category,
        "rate": rate,
        "taxable": taxable,
        "tax": tax,
        "reason_code": reason.get("code", ""),
        "reason": reason.get("text", ""),
        "reason_key": reason.get("key", ""),
    }


def invoice(**changes: Any) -> dict[str, Any]:
    """An Irish invoice of five lines with two VAT rates, a payment on account and an annex."""
    snapshot: dict[str, Any] = {
        "schema": 1,
        "kind": "invoice",
        "number": "TI-2026-00418",
        "issued_on": "2026-12-01",
        "due_on": "2026-12-15",
        "supply_from": "2026-11-01",
        "supply_to": "2027-01-01",
        "language": "en",
        "currency": "EUR",
        "is_demo": False,
        "corrects": None,
        "seller": SELLER,
        "buyer": BUYER,
        "lines": [
            line(
                1,
                "Studio plan, December",
                price="1161.00",
                net="1161.00",
                detail="1,290.00 less 10% by contract",
                span=DECEMBER,
            ),
            line(
                2,
                "Seats",
                quantity="12",
                unit="seats",
                price="45",
                net="540.00",
                detail="12 named users",
                span=DECEMBER,
            ),
            line(
                3,
                "Image credits above the balance",
                quantity="36400",
                unit="credits",
                price="12",
                base="1000",
                net="436.80",
                detail="overage, see credits applied",
            ),
            line(
                4,
                "Seats added on 18 November",
                quantity="26",
                unit="seat-days",
                price="45",
                base="30",
                net="39.00",
                detail="2 seats × 13 of 30 days",
                span=("2026-11-18", "2026-12-01"),
            ),
            line(
                5,
                "Prompting handbook, printed",
                quantity="4",
                unit="copies",
                price="18.5",
                net="74.00",
                detail="printed matter, zero-rated",
                span=("2026-11-24", "2026-11-25"),
                category="Z",
                rate="0",
            ),
        ],
        "taxes": [group("S", "23", "2176.80", "500.66"), group("Z", "0", "74.00", "0.00")],
        "net": "2250.80",
        "tax": "500.66",
        "gross": "2751.46",
        "rounding": "0.00",
        "paid": "300.00",
        "payable": "2451.46",
        "terms_days": 14,
        "credits": {
            "from": "2026-11-01",
            "to": "2026-12-01",
            "used": "187600",
            "covered": "151200",
            "overage": "36400",
            "grants": [
                grant(
                    "allowance", "Studio", "G-20114", "2026-11-01", 100_000, 100_000, "2026-11-30"
                ),
                grant("promotional", "", "G-19872", "2026-09-15", 20_000, 20_000, "2026-12-31"),
                grant("purchased", "pack of 50,000", "G-18840", "2026-08-03", 30_000, 30_000, None),
                grant("goodwill", "upscaling", "G-20377", "2026-11-09", 5_000, 1_200, "2027-02-09"),
            ],
        },
        "notes": "",
    }
    return copy.deepcopy(snapshot | changes)


def grant(
    kind: str, label: str, reference: str, day: str, before: int, taken: int, expires: str | None
) -> dict[str, Any]:
    """What one grant paid."""
    return {
        "kind": kind,
        "label": label,
        "reference": reference,
        "granted_on": day,
        "before": str(before),
        "taken": str(taken),
        "left": str(before - taken),
        "expires_on": expires,
    }


def reverse_charge(language: str = "de") -> dict[str, Any]:
    """A German seller, an Austrian business: no VAT, and the reason in words."""
    lines = [
        line(
            1,
            "Tarif „Verlag“, November",
            price="2400",
            net="2400.00",
            detail="200.000 Credits enthalten",
            category="AE",
            rate="0",
        ),
        line(
            2,
            "Bild-Credits über dem Guthaben",
            quantity="39800",
            unit="credits",
            price="8",
            base="1000",
            net="318.40",
            detail="Mehrverbrauch",
            category="AE",
            rate="0",
        ),
        line(
            3,
            "Einrichtung Farbprofile, Fernwartung",
            quantity="8",
            unit="hours",
            price="80",
            net="640.00",
            span=("2026-11-17", "2026-11-18"),
            category="AE",
            rate="0",
        ),
    ]
    return invoice(
        number="TD-2026-00291",
        language=language,
        seller=GERMAN_SELLER,
        buyer=BUYER
        | {
            "code": "K-20118",
            "name": "Alpenlicht Verlag GmbH",
            "attention": "Kreditorenbuchhaltung",
            "street": "Mariahilfer Zeile 19/4",
            "postal_code": "1060",
            "city": "Wien",
            "country": "AT",
            "vat_id": "ATU12345676",
            "purchase_order": "B-2026-3381",
            "buyer_reference": "Bildredaktion",
            "contract": "Verlag, ab 1. April 2026",
        },
        supply_to="2026-12-01",
        lines=lines,
        taxes=[
            group(
                "AE",
                "0",
                "3358.40",
                "0.00",
                code="VATEX-EU-AE",
                key="reverse_charge",
                text="Reverse charge: VAT is to be accounted for by the recipient.",
            )
        ],
        net="3358.40",
        tax="0.00",
        gross="3358.40",
        paid="0.00",
        payable="3358.40",
    )


def credit_note() -> dict[str, Any]:
    """Two seats and one handbook given back."""
    return invoice(
        kind="credit_note",
        number="CN-2026-00037",
        issued_on="2026-12-09",
        due_on="2026-12-09",
        corrects={"number": "TI-2026-00418", "issued_on": "2026-12-01"},
        lines=[
            line(
                1,
                "Seats",
                quantity="2",
                unit="seats",
                price="45",
                net="90.00",
                detail="2 of 12 named users",
                span=DECEMBER,
            ),
            line(
                2,
                "Prompting handbook, printed",
                unit="copies",
                price="18.5",
                net="18.50",
                detail="1 of 4 copies, damaged in transit",
                span=("2026-11-24", "2026-11-25"),
                category="Z",
                rate="0",
            ),
        ],
        taxes=[group("S", "23", "90.00", "20.70"), group("Z", "0", "18.50", "0.00")],
        net="108.50",
        tax="20.70",
        gross="129.20",
        paid="0",
        payable="129.20",
        credits=None,
        notes=("Two seats were given up before December began, and one handbook arrived damaged."),
    )


_THINGS = (
    ("Image generation 1024 px, model sdxl-3", "credits", "12", "1000", 44_400),
    ("Image generation 2048 px, model sdxl-3", "credits", "12", "1000", 72_200),
    ("Upscaling to 8192 px", "images", "0.04", "1", 200),
    ("Background removal", "images", "0.02", "1", 450),
    ("Style training run", "runs", "38", "1", 4),
    ("Storage of originals", "GB", "0.09", "1", 400),
)


def long_invoice(count: int, *, with_detail: bool = False) -> dict[str, Any]:
    """An invoice of `count` lines."""
    lines = []
    for position in range(1, count + 1):
        name, unit, price, base, quantity = _THINGS[position % len(_THINGS)]
        quantity += 100 * (position // len(_THINGS))
        net = Decimal(quantity) * Decimal(price) / Decimal(base)
        lines.append(
            line(
                position,
                name,
                quantity=str(quantity),
                unit=unit,
                price=price,
                base=base,
                net=f"{net:.2f}",
                detail=f"project {position // 10}" if with_detail else "",
            )
        )
    net = sum(Decimal(row["net"]) for row in lines)
    tax = (net * 23).quantize(Decimal(1)) / 100
    return invoice(
        number="TI-2026-00431",
        supply_to="2026-12-01",
        lines=lines,
        taxes=[group("S", "23", str(net), str(tax))],
        net=str(net),
        tax=str(tax),
        gross=str(net + tax),
        paid="0",
        payable=str(net + tax),
        credits=None,
    )
