"""What a snapshot becomes before it is drawn: strings in the reader's language, sums checked."""

from datetime import date
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from billing.errors import MissingData
from billing.paper import figures, marks, page, tidy, words
from tests.documents import snapshots

EN, DE, FR = (figures.locale_of(code) for code in ("en", "de", "fr"))


@pytest.mark.parametrize(
    ("language", "amount", "day", "days"),
    [
        ("en", "1,234.50", "1 December 2026", "1–30 Nov 2026"),
        ("en-US", "1,234.50", "December 1, 2026", "Nov 1 – 30, 2026"),
        ("de", "1.234,50", "1. Dezember 2026", "1.–30. Nov. 2026"),
        ("de-CH", "1’234.50", "1. Dezember 2026", "1.–30. Nov. 2026"),
        ("fr", "1 234,50", "1 décembre 2026", "1–30 nov. 2026"),
        ("es", "1.234,50", "1 de diciembre de 2026", "1–30 nov 2026"),
        ("nl", "1.234,50", "1 december 2026", "1–30 nov 2026"),
        ("xx", "1,234.50", "1 December 2026", "1–30 Nov 2026"),
    ],
)
def test_figures_and_days_are_written_as_the_language_does(language, amount, day, days):
    locale = figures.locale_of(language)
    spaces = str.maketrans("\u2009\u202f\u00a0", "   ")
    assert figures.digits(Decimal("1234.5"), 2, locale).translate(spaces) == amount
    assert figures.long_day(date(2026, 12, 1), locale) == day
    assert figures.span(date(2026, 11, 1), date(2026, 12, 1), locale).translate(spaces) == days


@given(st.decimals(allow_nan=False, allow_infinity=False, min_value=-(10**12), max_value=10**12))
def test_no_digit_is_ever_hidden(value):
    written = figures.digits(value, 2, EN).replace(",", "")
    assert Decimal(written) == value


def test_a_negative_amount_has_a_hyphen_so_that_machines_read_it():
    assert figures.digits(Decimal(-300), 2, EN) == "-300.00"


@pytest.mark.parametrize(
    ("currency", "written"),
    [("EUR", "EUR 1,234.00"), ("JPY", "JPY 1,234"), ("KWD", "KWD 1,234.000")],
)
def test_the_currency_decides_the_decimals(currency, written):
    snapshot = _simple(currency=currency, net="1234")
    amount = page.describe(snapshot)["facts"][-1]["value"]
    assert amount.replace("\u00a0", " ") == written


def test_a_column_has_one_count_of_decimals_and_a_fine_price_shows_all_of_its_own():
    lines = [
        snapshots.line(1, "a", price="12", net="12"),
        snapshots.line(2, "b", price="0.035", quantity="1.5", net="0.05"),
        snapshots.line(3, "c", price="0.0000001234", net="0.00"),
    ]
    snapshot = _simple(net="12.05") | {"lines": lines}
    rows = page.describe(snapshot)["lines"]["rows"]
    assert [row["price"] for row in rows] == ["12.000", "0.035", "0.0000001234"]
    assert [row["quantity"] for row in rows] == ["1.0", "1.5", "1.0"]


def test_the_running_total_ends_at_the_net_amount():
    described = page.describe(snapshots.long_invoice(30))
    assert described["lines"]["carry"]
    assert described["lines"]["rows"][-1]["run"] == described["sum"]["groups"][0]["net"]


def test_a_long_table_does_not_repeat_the_period_of_the_whole_invoice():
    rows = page.describe(snapshots.long_invoice(30))["lines"]["rows"]
    assert not any(row["detail"] for row in rows)
    assert all("Nov 2026" in row["detail"] for row in page.describe(_simple())["lines"]["rows"])


def test_lines_beyond_a_thousand_become_one_and_still_add_up():
    described = page.describe(snapshots.long_invoice(1_003))
    rows = described["lines"]["rows"]
    assert len(rows) == 1_001
    assert rows[-1]["description"] == "3 further lines, listed in the usage statement"
    assert rows[-1]["run"] == described["sum"]["groups"][0]["net"]


@pytest.mark.parametrize(
    "change",
    [
        {"net": "2250.79"},
        {"tax": "500.67"},
        {"gross": "2751.47"},
        {"payable": "2451.47"},
        {"lines": []},
        {"kind": "letter"},
        {"issued_on": "2026-13-01"},
        {"seller": {}},
        {"net": "much"},
    ],
    ids=lambda change: next(iter(change)),
)
def test_a_snapshot_that_disagrees_with_itself_is_not_drawn(change):
    with pytest.raises(MissingData, match="cannot be drawn"):
        page.describe(snapshots.invoice(**change))


def test_what_is_due_is_the_same_whether_or_not_payable_already_counts_what_was_paid():
    one = page.describe(snapshots.invoice())
    other = page.describe(snapshots.invoice(payable="2751.46"))
    assert one["sum"]["due"] == other["sum"]["due"] == "2,451.46"


def test_a_settled_invoice_asks_for_nothing():
    described = page.describe(snapshots.invoice(paid="2751.46", payable="0.00"))
    assert described["payment"] is None
    assert described["notes"] == ["Nothing is left to pay: this invoice is settled."]


@pytest.mark.parametrize("language", words.LANGUAGES)
def test_reverse_charge_is_said_in_words_with_both_vat_ids(language):
    (reason,) = page.describe(snapshots.reverse_charge(language))["law"]
    assert (
        reason["title"]
        == {
            "en": "Reverse charge",
            "de": "Steuerschuldnerschaft des Leistungsempfängers",
            "fr": "Autoliquidation",
            "es": "Inversión del sujeto pasivo",
            "nl": "Btw verlegd",
        }[language]
    )
    assert "VATEX-EU-AE" in reason["text"]
    assert "ATU12345676" in reason["ids"]
    assert "DE136695976" in reason["ids"]


def test_a_reason_we_have_no_words_for_is_printed_as_the_snapshot_says_it():
    group = snapshots.group("E", "0", "10.00", "0.00", key="school", text="Exempt: training.")
    snapshot = _simple() | {"taxes": [group]}
    (reason,) = page.describe(snapshot)["law"]
    assert reason["text"] == "Exempt: training."


@pytest.mark.parametrize("language", words.LANGUAGES)
def test_every_language_has_every_word_and_fills_the_same_gaps(language):
    english = words.catalogue("en")
    own = words._read(language)["text"]
    assert own.keys() - english.keys() == set()
    assert english.keys() - own.keys() <= {"category_L", "category_M"}
    for key, text in own.items():
        assert sorted(_gaps(text)) == sorted(_gaps(english[key])), key


def test_units_are_counted_in_the_language():
    assert words.unit("credits", "de", is_one=True) == "Credit"
    assert words.unit("month", "fr", is_one=False) == "mois"
    assert words.unit("seat-days", "de", is_one=False) == "Platz-Tage"
    assert words.unit("widgets", "de", is_one=True) == "widgets"


def test_the_post_of_each_country_gets_its_order():
    def town(**party: str) -> str:
        buyer = snapshots.BUYER | {"region": ""} | party
        return page.describe(_simple() | {"buyer": buyer})["address"]["lines"].splitlines()[-2]

    assert town(country="DE", postal_code="20457", city="Hamburg") == "20457 Hamburg"
    assert town(country="IE", postal_code="D02 XY00", city="Dublin") == "Dublin D02 XY00"
    assert (
        town(country="US", region="CA", postal_code="94016", city="Daly City")
        == "Daly City CA 94016"
    )


@given(st.text(max_size=400))
def test_a_tidy_line_is_short_and_without_controls(text):
    line = tidy.line(text, 50)
    assert len(line) <= 50
    assert not any(sign < " " or "\u202a" <= sign <= "\u202e" for sign in line)


def test_a_pile_of_accents_is_cut_and_an_ordinary_one_is_kept():
    assert len(tidy.line("a" + "\u0301" * 20_000)) <= 1 + tidy.COMBINING_MAX
    assert tidy.line("Nguyễn Thị Hồng") == "Nguyễn Thị Hồng"


def test_a_payment_code_is_offered_only_where_a_bank_could_pay_it():
    def code(**changes):
        values = {
            "name": "Tidewater Imaging Limited",
            "iban": "IE29 AIBK 9311 5212 3456 78",
            "bic": "AIBKIE2D",
            "amount": Decimal("2451.46"),
            "reference": "TI-2026-00418",
        }
        return marks.payment_code(**values | changes)

    assert code()
    assert code(bic="")
    assert code(amount=Decimal(0)) is None
    assert code(amount=Decimal(1000000000)) is None
    assert code(iban="IE29 AIBK 9311 5212 3456 79") is None
    assert code(iban="BR1800360305000010009795493C1") is None
    assert code(name="") is None
    usd = page.describe(_simple(currency="USD"))
    assert usd["payment"]["code"] is None


def test_a_monogram_is_drawn_from_the_initials_and_only_from_letters_the_font_has():
    assert marks.monogram("Tidewater Imaging").count("Z") >= 2
    assert marks.monogram("深圳 公司") == ""
    assert marks.monogram("") == ""


def _simple(currency: str = "EUR", net: str = "10.00") -> dict:
    return snapshots.invoice(
        currency=currency,
        lines=[snapshots.line(1, "One", price=net, net=net)],
        taxes=[snapshots.group("S", "0", net, "0")],
        net=net,
        tax="0",
        gross=net,
        paid="0",
        payable=net,
        credits=None,
    )


def _gaps(text: str) -> list[str]:
    import string

    return [name for _, name, _, _ in string.Formatter().parse(text) if name is not None]
