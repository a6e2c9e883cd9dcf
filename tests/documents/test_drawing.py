"""The finished file: what a person reads on it, what a machine finds in it, the same every time."""

import hashlib
import itertools
import os
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest
import segno
from PIL import Image

from billing.paper import engine, page, words
from tests.documents import reading, snapshots

GOLDEN = Path(__file__).with_name("golden")

DOCUMENTS = {
    "invoice": snapshots.invoice(),
    "reverse_charge": snapshots.reverse_charge(),
    "credit_note": snapshots.credit_note(),
    "long": snapshots.long_invoice(60),
    "demo": snapshots.invoice(is_demo=True, notes="First line\nSecond line"),
    "proforma": snapshots.invoice(kind="proforma", number="PF-2026-0007", credits=None),
    "draft": snapshots.invoice(number="", issued_on="", due_on=""),
} | {f"invoice-{code}": snapshots.invoice(language=code) for code in ("de", "fr", "es", "nl")}


@pytest.mark.parametrize("name", DOCUMENTS)
def test_the_page_says_what_it_said_before(name, draw):
    """Set UPDATE_GOLDEN=1 after a wanted change, and read the difference."""
    found = reading.text(draw(DOCUMENTS[name])) + "\n"
    path = GOLDEN / f"{name}.txt"
    if os.environ.get("UPDATE_GOLDEN"):
        GOLDEN.mkdir(exist_ok=True)
        path.write_text(found, encoding="utf-8")
    assert found == path.read_text(encoding="utf-8")


@pytest.mark.parametrize("name", ["invoice", "credit_note", "long"])
def test_the_same_snapshot_gives_the_same_bytes_in_any_process(name, draw):
    digest = hashlib.sha256(draw(DOCUMENTS[name])).hexdigest()
    assert hashlib.sha256(draw(DOCUMENTS[name])).hexdigest() == digest
    script = (
        "import django; django.setup()\n"
        "import hashlib\n"
        "from billing.paper import engine\n"
        "from tests.documents.test_drawing import DOCUMENTS\n"
        f"print(hashlib.sha256(engine.draw(DOCUMENTS[{name!r}])).hexdigest())\n"
    )
    other = subprocess.run(
        [sys.executable, "-c", script],
        env=os.environ | {"PYTHONHASHSEED": "7", "TZ": "Asia/Tokyo", "LC_ALL": "C"},
        cwd=Path(__file__).parents[2],
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    assert other.stdout.strip() == digest


def test_another_snapshot_is_another_file(draw):
    one, other = draw(snapshots.invoice()), draw(snapshots.invoice(notes="Paid with thanks."))
    assert reading.reader(one).trailer["/ID"] != reading.reader(other).trailer["/ID"]


def test_it_is_a_tagged_pdf_a_with_the_document_s_own_dates(draw):
    pdf = draw(DOCUMENTS["reverse_charge"])
    xmp = reading.metadata(pdf)
    root = reading.reader(pdf).trailer["/Root"]
    assert 'pdfaid:part="3"' in xmp
    assert 'pdfaid:conformance="A"' in xmp
    assert "2026-12-01T00:00:00+00:00" in xmp
    assert root["/Lang"] == "de"
    assert root["/MarkInfo"]["/Marked"]
    assert root["/ViewerPreferences"]["/DisplayDocTitle"]
    info = reading.reader(pdf).metadata
    assert info.title == "Rechnung TD-2026-00291 · Tidewater Imaging GmbH"
    assert info.author == "Tidewater Imaging GmbH"


def test_a_screen_reader_finds_headings_tables_and_the_words_for_each_drawing(draw):
    found = list(reading.elements(draw(DOCUMENTS["invoice"])))
    kinds = [str(element["/S"]) for element in found]
    assert kinds.count("/H1") == 1
    assert kinds.count("/H2") == 2
    assert kinds.count("/Table") == 6
    drawings = [str(element["/Alt"]) for element in found if element["/S"] == "/Figure"]
    assert drawings[0] == "Tidewater Imaging"
    assert "IBAN IE29 AIBK 9311 5212 3456 78, reference TI-2026-00418" in drawings[1]
    cells = [element for element in found if element["/S"] == "/TD" and "/A" in element]
    assert all("/Headers" in cell["/A"] for cell in cells)


def test_the_text_is_in_reading_order(draw):
    text = reading.text(draw(DOCUMENTS["invoice"]))
    order = [
        "Tidewater Imaging Limited",
        "Fernwood Studios Limited",
        "Invoice TI-2026-00418",
        "1 December 2026",
        "Studio plan, December",
        "VAT summary",
        "Amount due EUR",
        "Payment by bank transfer",
        "Credits applied",
    ]
    places = [text.index(words) for words in order]
    assert places == sorted(places)


def test_only_our_two_fonts_are_in_it_and_only_the_letters_in_use(draw):
    found = reading.fonts(draw(DOCUMENTS["invoice"]))
    assert found.keys() == {"Keter-Sans", "Keter-Sans-Bold"}
    assert all(size < 40_000 for size in found.values())
    assert engine.subsetter() == "uharfbuzz"


def test_the_payment_code_says_iban_amount_and_reference(draw):
    code = page.describe(DOCUMENTS["invoice"])["payment"]["code"]
    content = (
        "BCD\n002\n1\nSCT\nAIBKIE2D\nTidewater Imaging Limited\nIE29AIBK93115212345678\n"
        "EUR2451.46\n\n\nTI-2026-00418"
    )
    expected = segno.make(content.encode(), error="m", boost_error=False, micro=False)
    assert _payload_rows(code) == [bytes(row) for row in expected.matrix]


def test_a_banking_app_reads_the_payment_code():
    zxingcpp = pytest.importorskip("zxingcpp", reason="zxing-cpp is not installed")
    code = page.describe(DOCUMENTS["reverse_charge"])["payment"]["code"]
    picture = Image.new("L", (code.size + 8, code.size + 8), 255)
    for y, row in enumerate(reading.code_modules(code.path, code.size)):
        for x, is_dark in enumerate(row):
            picture.putpixel((x + 4, y + 4), 0 if is_dark else 255)
    (read,) = zxingcpp.read_barcodes(picture.resize((8 * picture.width, 8 * picture.height), 0))
    assert read.text.split("\n")[5:8] == [
        "Tidewater Imaging GmbH",
        "DE02120300000000202051",
        "EUR3358.40",
    ]
    assert read.text.endswith("\nTD-2026-00291")


def _payload_rows(code) -> list[bytes]:
    return [bytes(row) for row in reading.code_modules(code.path, code.size)]


@pytest.mark.parametrize("count", [60, 150])
def test_a_long_invoice_carries_its_total_from_page_to_page(count, draw):
    snapshot = snapshots.long_invoice(count, with_detail=count == 150)
    pages = reading.reader(draw(snapshot)).pages
    texts = [found.extract_text().replace("\u00a0", " ") for found in pages]
    assert len(texts) == {60: 3, 150: 7}[count]
    runs = [row["run"] for row in page.describe(snapshot)["lines"]["rows"]]
    for before, after in itertools.pairwise(texts):
        if "Brought forward" not in after:
            continue
        carried = before.partition("Carried forward EUR ")[2].split()[0]
        brought = after.partition("Brought forward EUR ")[2].split()[0]
        assert carried == brought
        assert carried in runs
    assert sum("Brought forward" in text for text in texts) >= len(texts) - 2
    assert "Carried forward" not in texts[-1]
    assert all(text.count("Description") == 1 for text in texts if "S 23%" in text)
    for number, text in enumerate(texts, 1):
        assert f"Page {number} of {len(texts)}" in text


def test_the_first_table_row_is_never_alone_with_the_totals_on_the_next_page(draw):
    for count in (24, 25, 26):
        texts = [
            p.extract_text() for p in reading.reader(draw(snapshots.long_invoice(count))).pages
        ]
        with_sum = next(text for text in texts if "VAT summary" in text)
        assert "S\u00a023%" in with_sum


@pytest.mark.parametrize("language", words.LANGUAGES)
def test_every_language_fits_on_one_page_as_english_does(language, draw):
    assert len(reading.reader(draw(snapshots.invoice(language=language))).pages) == 1


def test_demonstration_data_says_so_on_every_page(draw):
    pdf = draw(snapshots.long_invoice(60) | {"is_demo": True})
    texts = [found.extract_text() for found in reading.reader(pdf).pages]
    assert "please do not pay" in texts[0]
    assert all("Demonstration data" in text for text in texts)


@pytest.mark.parametrize(
    ("colour", "used"),
    [
        ("#0b5563", "#0b5563"),
        ("#6B2444", "#6b2444"),
        ("#ffee00", engine.ACCENT),
        ("red", engine.ACCENT),
        ("#0b5563}body{display:none", engine.ACCENT),
        ("", engine.ACCENT),
    ],
)
def test_an_accent_that_cannot_be_read_gives_way_to_ink(colour, used):
    assert engine.readable(colour) == used


def test_markup_that_is_not_well_formed_is_drawn_all_the_same(draw):
    markup = "<html lang=en><head><title>x</title><body><p>Unclosed &nbsp; text"
    pdf = engine.typeset(markup, accent=engine.ACCENT, identifier=b"x")
    assert "Unclosed" in reading.text(pdf)


@pytest.mark.skipif("EINVOICE_VALIDATOR" not in os.environ, reason="EINVOICE_VALIDATOR is not set")
@pytest.mark.skipif(find_spec("pikepdf") is None, reason="pikepdf is not installed")
@pytest.mark.parametrize("name", DOCUMENTS)
def test_an_independent_checker_finds_no_fault_with_the_archive_format(name, draw, tmp_path):
    path = tmp_path / "document.pdf"
    path.write_bytes(draw(DOCUMENTS[name]))
    checker = Path(os.environ["EINVOICE_VALIDATOR"]).with_name("pdfa_native.py")
    found = subprocess.run(
        [sys.executable, checker, path], capture_output=True, text=True, timeout=120, check=False
    )
    assert found.returncode == 0, found.stdout + found.stderr
