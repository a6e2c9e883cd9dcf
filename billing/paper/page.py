"""From a snapshot to the strings a template prints. The last place where anything is added up.

Amounts stay exact decimals until they are written; a snapshot whose sums disagree is not drawn.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from decimal import Decimal
from functools import cached_property
from typing import Any, Final

from babel import Locale

from billing.errors import MissingData
from billing.paper import figures, marks, tidy, words

KINDS: Final = ("invoice", "credit_note", "proforma")
LINES_MAX: Final = 1_000  # beyond that the rest is one line and stands in the usage statement
CARRY_FROM: Final = 9  # lines; a shorter table fits the first page
ZERO: Final = Decimal(0)

_WIDTHS: Final = (7, 13, 14, 15, 17, 18, 20, 22, 24, 26, 28, 30, 32, 34, 38, 44, 52)  # mm, in CSS
# Columns as (least, most) mm: what is left to the description is never less than 40.
_LINE_COLUMNS: Final = {
    "quantity": (15, 26),
    "unit": (18, 24),
    "price": (17, 26),
    "per": (14, 20),
    "net": (20, 30),
}
_GRANT_COLUMNS: Final = {"before": (18, 26), "taken": (20, 26), "left": (17, 26)}
_CODE_LAST: Final = frozenset({"IE", "GB", "NZ", "SG", "ZA", "JP", "KR", "LV"})
_REGION_BESIDE: Final = frozenset({"US", "CA", "AU", "IN"})
_ADDRESS_ROW: Final = 25_000  # thousandths of an em that fit the address window, 9.4 pt
_SMALL_ROW: Final = 31_000  # the same at 7.6 pt
_REFERENCE_ROW: Final = 15_000  # a value in the references block
_REFERENCE_ROOM: Final = 30_000  # two rows of it
_WORDMARK_ROOM: Final = 30_000
_SENDER_ROOM: Final = 48_000  # two rows beside the logo
_RETURN_ROOM: Final = 40_000  # the line above the address
_ADDRESS_ROWS: Final = 5
_ADDRESS_ROOM: Final = 124_000  # four rows in small type
_SMALL_ROWS: Final = 7


def describe(snapshot: Mapping[str, Any]) -> dict[str, Any]:
    """Everything a template of this snapshot's kind prints, as text.

    Raises MissingData when the snapshot lacks something or its sums disagree.
    """
    try:
        return _Sheet(snapshot).described()
    except (LookupError, TypeError, ValueError, ArithmeticError, AttributeError) as error:
        raise MissingData(
            f"the snapshot cannot be drawn: {type(error).__name__} {error}"
        ) from error


@dataclass(frozen=True, slots=True)
class _Amounts:
    """The document's totals, checked."""

    net: Decimal
    tax: Decimal
    gross: Decimal
    rounding: Decimal
    paid: Decimal
    due: Decimal


class _Sheet:
    """One snapshot with its language at hand."""

    def __init__(self, snapshot: Mapping[str, Any]) -> None:
        self.data = snapshot
        self.kind: str = snapshot["kind"]
        if self.kind not in KINDS:
            raise ValueError(f"no template for {self.kind!r}")
        self.language = words.language_of(snapshot["language"])
        self.locale: Locale = figures.locale_of(snapshot["language"])
        self.text = words.catalogue(self.language)
        self.currency = tidy.line(snapshot["currency"], 3)
        if not self.currency:
            raise ValueError("no currency")
        self.places = figures.money_places(self.currency)
        self.number = tidy.line(snapshot["number"], 40) or self.text["draft"]
        self.seller: Mapping[str, Any] = snapshot["seller"]
        self.buyer: Mapping[str, Any] = snapshot["buyer"]
        self.lines: Sequence[Mapping[str, Any]] = snapshot["lines"]
        self.is_demo = bool(snapshot["is_demo"])

    def described(self) -> dict[str, Any]:
        """The whole page."""
        seller = tidy.line(self.seller["legal_name"])
        heading = f"{self.text[self.kind]} {self.number}"
        return {
            "kind": self.kind,
            "language": self.language,
            "text": self.text,
            "heading": self.text[self.kind],
            "number": self.number,
            "doc": f"{heading} · {seller}",
            "author": seller,
            "created": f"{self._issued_on.isoformat()}T00:00:00+00:00",
            "is_demo": self.is_demo,
            "sender": self._sender(),
            "address": self._address(),
            "facts": self._facts(),
            "sentence": self._sentence(),
            "lines": self._lines(),
            "sum": self._sum(),
            "law": self._law(),
            "payment": self._payment(),
            "credits": self._credits(),
            "notes": self._notes(),
            "imprint": self._imprint(),
        }

    # --- small writing ---------------------------------------------------------------------------

    def _money(self, amount: Decimal) -> str:
        return f"{self.currency}\u00a0{self._digits(amount)}"

    def _digits(self, amount: Decimal) -> str:
        return figures.digits(amount, self.places, self.locale)

    def _long(self, day: date, room: int = 20_000) -> str:
        """A day in full where it fits, else in short."""
        text = figures.long_day(day, self.locale)
        return text if tidy.width(text) <= room else figures.day(day, self.locale)

    def _span(self, start: str, end: str) -> str:
        return figures.span(date.fromisoformat(start), date.fromisoformat(end), self.locale)

    def _percent(self, rate: str) -> str:
        return figures.percent(Decimal(rate), self.locale)

    @property
    def _is_long(self) -> bool:
        return len(self.lines) >= CARRY_FROM

    @cached_property
    def _issued_on(self) -> date:
        return date.fromisoformat(self.data["issued_on"] or self.data["supply_to"])

    @cached_property
    def amounts(self) -> _Amounts:
        """The totals; refuses a snapshot that does not add up."""
        net, tax, gross, rounding, paid, payable = (
            Decimal(self.data[name])
            for name in ("net", "tax", "gross", "rounding", "paid", "payable")
        )
        groups = self.data["taxes"]
        agrees = (
            sum((Decimal(line["net"]) for line in self.lines), ZERO) == net
            and sum((Decimal(group["taxable"]) for group in groups), ZERO) == net
            and sum((Decimal(group["tax"]) for group in groups), ZERO) == tax
            and net + tax == gross
            and payable in {gross + rounding, gross + rounding - paid}
        )
        if not agrees:
            raise ValueError("its lines, VAT and totals do not add up")
        return _Amounts(net, tax, gross, rounding, paid, gross + rounding - paid)

    # --- head ------------------------------------------------------------------------------------

    def _sender(self) -> dict[str, Any]:
        seller = self.seller
        name = tidy.fitting(seller["name"] or seller["legal_name"], _WORDMARK_ROOM)
        country = figures.country(tidy.line(seller["country"], 2), self.locale)
        town = _town(seller)
        contact = _joined(" · ", seller["email"], seller["phone"])
        vat_id = tidy.line(seller["vat_id"], 30)
        wide = tidy.width(name)
        return {
            "name": name,
            "size": "" if wide < 14_000 else "m" if wide < 21_000 else "s",
            "mark": marks.monogram(name),
            "legal_name": tidy.fitting(seller["legal_name"], _SENDER_ROOM),
            "lines": "\n".join(
                tidy.fitting(line, _SENDER_ROOM)
                for line in (
                    _joined(", ", seller["street"], town, country),
                    self.text["vat_no"].format(vat_id) if vat_id else "",
                    seller["registration"],
                    contact,
                )
                if line
            ),
            "return": tidy.fitting(
                _joined(" · ", seller["legal_name"], seller["street"], town), _RETURN_ROOM
            ),
        }

    def _address(self) -> dict[str, Any]:
        buyer = self.buyer
        name = tidy.line(buyer["name"])
        rest = tidy.lines(
            [
                buyer["attention"],
                buyer["street"],
                _town(buyer),
                "" if _is_region_beside(buyer) else buyer["region"],
                figures.country(tidy.line(buyer["country"], 2), self.locale),
            ]
        )
        lines = [tidy.fitting(line, _ADDRESS_ROOM) for line in [name, *rest]]
        references = [
            (label, value)
            for label, value in (
                (self.text["customer_no"], tidy.fitting(buyer["code"], _REFERENCE_ROOM)),
                (self.text["your_vat_no"], tidy.fitting(buyer["vat_id"], _REFERENCE_ROOM)),
                (
                    self.text["purchase_order"],
                    tidy.fitting(buyer["purchase_order"], _REFERENCE_ROOM),
                ),
                (
                    self.text["buyer_reference"],
                    tidy.fitting(buyer["buyer_reference"], _REFERENCE_ROOM),
                ),
                (self.text["contract"], tidy.fitting(buyer.get("contract"), _REFERENCE_ROOM)),
            )
            if value
        ]
        return {"lines": "\n".join(lines), "references": references} | _fitted(lines, references)

    def _facts(self) -> list[dict[str, str]]:
        text = self.text
        first = (text[f"date_{self.kind}"], self._long(self._issued_on))
        supply = (text["supply_period"], self._supply())
        if self.kind == "credit_note":
            corrected = self._corrected()
            second = (text["corrects"], corrected["number"]) if corrected else supply
            third = (text["date_invoice"], corrected["day"]) if corrected else ("", "")
            amount = (text["amount_credited"], self._money(self.amounts.due))
        else:
            second = supply
            label = "payment_due" if self.kind == "invoice" else "valid_until"
            due_on = self.data["due_on"]
            third = (text[label], self._long(date.fromisoformat(due_on)) if due_on else "")
            amount = (
                text["amount_due" if self.kind == "invoice" else "amount_proforma"],
                self._money(self.amounts.due),
            )
        return [{"label": label, "value": value} for label, value in (first, second, third, amount)]

    def _supply(self) -> str:
        start, end = (date.fromisoformat(self.data[name]) for name in ("supply_from", "supply_to"))
        text = figures.long_span(start, end, self.locale)
        return text if tidy.width(text) <= 22_000 else figures.span(start, end, self.locale)

    def _corrected(self) -> dict[str, str] | None:
        corrects = self.data.get("corrects")
        if not corrects:
            return None
        day = date.fromisoformat(corrects["issued_on"])
        return {"number": tidy.line(corrects["number"], 40), "day": self._long(day)}

    def _sentence(self) -> str:
        if self.kind == "proforma":
            return self.text["not_an_invoice"]
        corrected = self._corrected() if self.kind == "credit_note" else None
        return self.text["corrects_sentence"].format(**corrected) if corrected else ""

    # --- lines -----------------------------------------------------------------------------------

    def _lines(self) -> dict[str, Any]:
        shown = self.lines[:LINES_MAX]
        quantity_places = figures.places((Decimal(x["quantity"]) for x in shown), 0, 3)
        price_places = figures.places((Decimal(x["unit_price"]) for x in shown), self.places, 4)
        running = ZERO
        rows = []
        for line in shown:
            running += Decimal(line["net"])
            rows.append(self._row(line, running, quantity_places, price_places))
        if rest := self.lines[LINES_MAX:]:
            rows.append(self._rest(rest, running))
        code = self.currency
        heads = {
            "quantity": self.text["quantity"],
            "unit": self.text["unit"],
            "price": self.text["price"].format(code),
            "per": self.text["per"],
            "vat": self.text["vat"],
            "net": self.text["net"].format(code),
        }
        return {
            "rows": rows,
            "description": self.text[
                "description_credited" if self.kind == "credit_note" else "description"
            ],
            "heads": heads,
            "widths": _widths(rows, _LINE_COLUMNS),
            "carry": self._is_long,
            "carried": self.text["carried"].format(code),
            "brought": self.text["brought"].format(code),
        }

    def _row(
        self, line: Mapping[str, Any], running: Decimal, quantity_places: int, price_places: int
    ) -> dict[str, str]:
        quantity, base = Decimal(line["quantity"]), Decimal(line["base_quantity"])
        unit = tidy.line(line["unit"], 20)
        period = (line["period_from"], line["period_to"])
        # A long table does not repeat the period that already stands above it.
        is_said = self._is_long and period == (self.data["supply_from"], self.data["supply_to"])
        detail = tidy.lines(["" if is_said else self._span(*period), line["detail"]])
        return {
            "position": str(int(line["position"])),
            "description": tidy.line(line["description"]),
            "detail": " · ".join(detail),
            "quantity": figures.digits(quantity, quantity_places, self.locale),
            "unit": words.unit(unit, self.language, is_one=quantity == 1),
            "price": figures.digits(Decimal(line["unit_price"]), price_places, self.locale),
            "per": (
                words.unit(unit, self.language, is_one=True)
                if base == 1
                else figures.digits(base, 0, self.locale)
            ),
            "vat": self._vat_mark(line["tax_category"], line["tax_rate"]),
            "net": self._digits(Decimal(line["net"])),
            "run": self._digits(running),
        }

    def _rest(self, rest: Sequence[Mapping[str, Any]], running: Decimal) -> dict[str, str]:
        net = sum((Decimal(line["net"]) for line in rest), ZERO)
        count = figures.digits(Decimal(len(rest)), 0, self.locale)
        empty = dict.fromkeys(("position", "detail", "quantity", "unit", "price", "per", "vat"), "")
        return empty | {
            "description": self.text["further_lines"].format(count),
            "net": self._digits(net),
            "run": self._digits(running + net),
        }

    def _vat_mark(self, category: str, rate: str) -> str:
        code = tidy.line(category, 2)
        is_rated = Decimal(rate) or code in {"S", "Z"}
        return f"{code}\u00a0{self._percent(rate)}" if is_rated else code

    # --- sums ------------------------------------------------------------------------------------

    def _sum(self) -> dict[str, Any]:
        amounts, code = self.amounts, self.currency
        groups = [
            {
                "label": self._group(group),
                "net": self._digits(Decimal(group["taxable"])),
                "vat": self._digits(Decimal(group["tax"])),
                "gross": self._digits(Decimal(group["taxable"]) + Decimal(group["tax"])),
            }
            for group in self.data["taxes"]
        ]
        extra = [
            (self.text[name], self._digits(amount))
            for name, amount in (("rounding", amounts.rounding), ("paid", -amounts.paid))
            if amount
        ]
        suffix = "" if self.kind == "invoice" else f"_{self.kind}"
        total = None
        if len(groups) > 1 or extra:
            total = {
                "label": self.text["total_credit_note" if suffix == "_credit_note" else "total"],
                "net": self._digits(amounts.net),
                "vat": self._digits(amounts.tax),
                "gross": self._digits(amounts.gross),
            }
        return {
            "title": self.text["vat_reduced" if self.kind == "credit_note" else "vat_summary"],
            "heads": [self.text[name].format(code) for name in ("net", "vat_amount", "gross")],
            "groups": groups,
            "total": total,
            "extra": extra,
            "grand": self.text[f"grand{suffix}"].format(code),
            "due": self._digits(amounts.due),
        }

    def _group(self, group: Mapping[str, Any]) -> str:
        code = tidy.line(group["category"], 2)
        pattern = self.text.get(f"category_{code}", "{}")
        return f"{code} · {pattern.format(self._percent(group['rate'])).strip()}"

    def _law(self) -> list[dict[str, str]]:
        """Why no VAT is charged, in words, once a reason; with both VAT ids where they matter."""
        said: dict[str, dict[str, str]] = {}
        for group in self.data["taxes"]:
            key, code = group.get("reason_key", ""), group["reason_code"]
            reason = tidy.line(group["reason"], tidy.NOTE_MAX)
            if f"reason_{key}" in self.text:
                title, sentence = self.text[f"title_{key}"], self.text[f"reason_{key}"]
            elif group["category"] == "AE":
                title = self.text["title_reverse_charge"]
                sentence = self.text["reason_reverse_charge"]
            elif reason:
                title, sentence = self.text["title_other"], reason
            else:
                continue
            if code:
                sentence += " " + self.text["reason_code"].format(tidy.line(code, 30))
            said[title] = {"title": title, "text": sentence, "ids": self._both_ids(group)}
        return list(said.values())

    def _both_ids(self, group: Mapping[str, Any]) -> str:
        buyer = tidy.line(self.buyer["vat_id"], 30)
        seller = tidy.line(self.seller["vat_id"], 30)
        if group["category"] not in {"AE", "K"} or not buyer:
            return ""
        return self.text["both_vat_ids"].format(buyer=buyer, seller=seller)

    # --- payment, credits, small print -----------------------------------------------------------

    def _payment(self) -> dict[str, Any] | None:
        due = self.amounts.due
        if self.kind == "credit_note" or due <= 0:
            return None
        text, seller = self.text, self.seller
        name = tidy.line(seller["legal_name"], 140)
        iban = tidy.line(seller["iban"], 42).replace(" ", "").upper()
        bic = tidy.line(seller["bic"], 11)
        bank = tidy.line(seller["bank_name"], 80)
        grouped = " ".join(iban[i : i + 4] for i in range(0, len(iban), 4))
        rows = [(text["pay_amount"], self._terms(due))]
        if iban:
            rows += [
                (text["pay_to"], name),
                (
                    text["pay_iban_bic" if bic else "pay_iban"],
                    f"{grouped} · {bic}" if bic else grouped,
                ),
            ]
        if bank:
            rows.append((text["pay_bank"], bank))
        rows.append((text["pay_reference"], self.number))
        code = None
        if self.currency == "EUR" and self.data["number"] and self.kind == "invoice":
            code = marks.payment_code(
                name=name, iban=iban, bic=bic, amount=due, reference=self.number
            )
        return {
            "title": text["pay_title" if iban else "pay_title_short"],
            "rows": rows,
            "code": code,
            "alt": text["pay_code"].format(
                amount=self._money(due), name=name, iban=grouped, reference=self.number
            ),
        }

    def _terms(self, due: Decimal) -> str:
        amount, days = self._money(due), int(self.data.get("terms_days") or 0)
        if not self.data["due_on"]:
            return amount
        day = figures.long_day(date.fromisoformat(self.data["due_on"]), self.locale)
        if self.kind == "proforma":
            return self.text["pay_by_day"].format(amount=amount, day=day)
        pattern = self.text["pay_by" if days else "pay_now"]
        return pattern.format(amount=amount, day=day, days=days)

    def _credits(self) -> dict[str, Any] | None:
        annex = self.data.get("credits")
        if not annex:
            return None
        grants = annex["grants"]
        amounts = [[Decimal(g[name]) for name in ("before", "taken", "left")] for g in grants]
        places = figures.places((amount for row in amounts for amount in row), 0, 6)

        def number(amount: Decimal) -> str:
            return figures.digits(amount, places, self.locale)

        rows = [
            {
                "kind": self._grant(grant),
                "reference": tidy.line(grant["reference"], 20),
                "granted_on": figures.day(date.fromisoformat(grant["granted_on"]), self.locale),
                "before": number(before),
                "taken": number(taken),
                "left": number(left),
                "expires": (
                    figures.day(date.fromisoformat(grant["expires_on"]), self.locale)
                    if grant["expires_on"]
                    else self.text["credit_never"]
                ),
            }
            for grant, (before, taken, left) in zip(grants, amounts, strict=True)
        ]
        sums = [number(sum(column, ZERO)) for column in zip(*amounts, strict=True)]
        total = dict(zip(("before", "taken", "left"), sums, strict=True)) if rows else {}
        overage = Decimal(annex["overage"])
        pattern = self.text["credit_sum" if overage else "credit_sum_covered"]
        said = pattern.format(
            used=number(Decimal(annex["used"])),
            covered=number(Decimal(annex["covered"])),
            overage=number(overage),
        )
        return {
            "title": self.text["credits_title"].format(self._span(annex["from"], annex["to"])),
            "rows": rows,
            "total": total,
            "widths": _widths([*rows, total], _GRANT_COLUMNS),
            "keep": len(rows) <= 20,
            "note": f"{said} {self.text['credit_units']}",
        }

    def _grant(self, grant: Mapping[str, Any]) -> str:
        kind = self.text.get(f"grant_{grant['kind']}") or tidy.line(grant["kind"], 40)
        label = tidy.line(grant["label"], 60)
        return f"{kind}, {label}" if label and label.casefold() != kind.casefold() else kind

    def _notes(self) -> list[str]:
        notes = [tidy.block(self.data.get("notes"))]
        corrected = self._corrected() if self.kind == "credit_note" else None
        if corrected and self.amounts.tax:
            notes.append(
                self.text["credit_note_vat"].format(
                    number=corrected["number"], amount=self._money(self.amounts.tax)
                )
            )
        if self.kind == "invoice" and self.amounts.due == 0:
            notes.append(self.text["nothing_due"])
        notes.append(tidy.block(self.seller["footer"], 300))
        return [note for note in notes if note]

    def _imprint(self) -> list[str]:
        seller = self.seller
        town = _town(seller)
        country = figures.country(tidy.line(seller["country"], 2), self.locale)
        vat_id = tidy.line(seller["vat_id"], 30)
        directors = tidy.line(seller["directors"], 170)
        return tidy.lines(
            [
                _joined(
                    " · ", seller["legal_name"], _joined(", ", seller["street"], town, country)
                ),
                _joined(
                    " · ",
                    seller["registration"],
                    self.text["vat_no"].format(vat_id) if vat_id else "",
                ),
                self.text["directors"].format(directors) if directors else "",
            ],
            tidy.NAME_MAX,
        )


def _town(party: Mapping[str, Any]) -> str:
    """Town and postal code in the order the country's post wants them."""
    country = tidy.line(party["country"], 2)
    if _is_region_beside(party):
        return _joined(" ", party["city"], party["region"], party["postal_code"])
    if country in _CODE_LAST:
        return _joined(" ", party["city"], party["postal_code"])
    return _joined(" ", party["postal_code"], party["city"])


def _is_region_beside(party: Mapping[str, Any]) -> bool:
    return tidy.line(party["country"], 2) in _REGION_BESIDE


def _joined(separator: str, *parts: Any) -> str:
    return separator.join(tidy.lines(parts))


def _fitted(lines: Sequence[str], references: Sequence[tuple[str, str]]) -> dict[str, str]:
    """Which size of the address window holds everything: the usual, small type, or a taller one."""
    usual = sum(tidy.rows(line, _ADDRESS_ROW) for line in lines)
    small = sum(tidy.rows(line, _SMALL_ROW) for line in lines)
    beside = sum(tidy.rows(value, _REFERENCE_ROW) for _, value in references)
    if usual <= _ADDRESS_ROWS and beside <= _SMALL_ROWS:
        return {"size": "", "height": ""}
    if small <= _SMALL_ROWS and beside <= _SMALL_ROWS:
        return {"size": "small", "height": ""}
    return {"size": "small", "height": "tall" if max(small, beside) <= 11 else "taller"}


def _widths(
    rows: Sequence[Mapping[str, str]], columns: Mapping[str, tuple[int, int]]
) -> dict[str, int]:
    """For each column the narrowest width in mm that holds its longest entry, within its limits."""
    needed = {
        # 8.3 pt are 2.93 mm; an entry has a gap before it, and a unit one more.
        name: 4 + max((tidy.width(row.get(name, "")) * 293 // 100_000 for row in rows), default=0)
        for name in columns
    }
    return {
        name: next(w for w in _WIDTHS if w >= min(max(needed[name], least), most))
        for name, (least, most) in columns.items()
    }
