"""Drawn marks as flat paths: the seller's monogram and the payment code. No pictures, no fonts."""

from collections.abc import Iterator
from dataclasses import dataclass
from decimal import Decimal
from functools import lru_cache
from pathlib import Path
from typing import Final

import segno

from billing.paper.figures import takes_sepa

try:
    import uharfbuzz
except ImportError:  # pragma: no cover - the system check says so first
    uharfbuzz = None

FONTS: Final = Path(__file__).resolve().parent.parent / "assets" / "fonts"
MARK_SIZE: Final = 32  # units of the monogram's square
_LETTERS_WIDTH: Final = 22  # units the initials may take
_CAPITAL: Final = 14  # units, how tall a capital stands
_EPC_MAX: Final = Decimal("999999999.99")
_EPC_BYTES_MAX: Final = 331


@dataclass(frozen=True, slots=True)
class Code:
    """A payment code: what to draw and how many modules a side has."""

    path: str
    size: int


@lru_cache(maxsize=64)
def monogram(name: str) -> str:
    """The outline of a name's initials, centred in a square of MARK_SIZE; empty if unknown."""
    if uharfbuzz is None:
        return ""
    words = [word for word in name.split() if word[0].isalnum()]
    font = _bold()
    glyphs = [
        glyph
        for word in words[:2]
        if (glyph := font.get_nominal_glyph(ord(word[0].upper()))) is not None
    ]
    pen = _Pen()
    for glyph in glyphs:
        font.draw_glyph_with_pen(glyph, pen)
        pen.left += font.get_glyph_h_advance(glyph)
    return pen.centred(font.face.upem) if pen.steps else ""


def payment_code(*, name: str, iban: str, bic: str, amount: Decimal, reference: str) -> Code | None:
    """The EPC code a banking app reads: a SEPA transfer in euro with our reference as its text.

    None where no app could pay it: another zone, a broken IBAN, an amount of nothing.
    """
    compact = iban.replace(" ", "").upper()
    if not (Decimal(0) < amount <= _EPC_MAX and name and is_iban(compact)):
        return None
    if not takes_sepa(compact[:2]):
        return None
    # EPC069-12: version 2, UTF-8, a transfer; no purpose and no structured reference.
    payload = "\n".join(
        ["BCD", "002", "1", "SCT", bic, name[:70], compact, f"EUR{amount:.2f}", "", "", reference]
    ).encode()
    if len(payload) > _EPC_BYTES_MAX:
        return None
    code = segno.make(payload, error="m", boost_error=False, micro=False)
    rows = [bytes(row) for row in code.matrix]
    return Code("".join(_modules(rows)), len(rows))


def is_iban(text: str) -> bool:
    """Whether an account number without spaces has the right check digits (ISO 7064)."""
    if not (15 <= len(text) <= 34 and text.isascii() and text.isalnum()):
        return False
    if not (text[:2].isalpha() and text[2:4].isdigit()):
        return False
    return int("".join(str(int(sign, 36)) for sign in text[4:] + text[:4])) % 97 == 1


def _modules(rows: list[bytes]) -> Iterator[str]:
    """One stroke of width 1 for each run of dark modules: far fewer steps than rectangles."""
    for y, row in enumerate(rows):
        x = 0
        while x < len(row):
            run = x
            while run < len(row) and row[run]:
                run += 1
            if run > x:
                yield f"M{x} {y}.5h{run - x}"
            x = run + 1


@lru_cache(maxsize=1)
def _bold() -> "uharfbuzz.Font":
    return uharfbuzz.Font(uharfbuzz.Face((FONTS / "KeterSans-Bold.ttf").read_bytes()))


class _Pen:
    """Collects outlines side by side, in font units with y upwards."""

    def __init__(self) -> None:
        self.steps: list[tuple[str, tuple[tuple[int, int], ...]]] = []
        self.left = 0

    def _add(self, letter: str, *points: tuple[int, int]) -> None:
        self.steps.append((letter, tuple((int(x) + self.left, int(y)) for x, y in points)))

    def moveTo(self, point: tuple[int, int]) -> None:  # noqa: N802 - the protocol's own names
        self._add("M", point)

    def lineTo(self, point: tuple[int, int]) -> None:  # noqa: N802
        self._add("L", point)

    def qCurveTo(self, *points: tuple[int, int]) -> None:  # noqa: N802
        self._add("Q", *points)

    def curveTo(self, *points: tuple[int, int]) -> None:  # noqa: N802
        self._add("C", *points)

    def closePath(self) -> None:  # noqa: N802
        self._add("Z")

    def endPath(self) -> None:  # noqa: N802
        """An open outline has nothing to close."""

    def centred(self, upem: int) -> str:
        """The whole as an SVG path in the middle of the square, y downwards."""
        points = [point for _, group in self.steps for point in group]
        left, right = min(x for x, _ in points), max(x for x, _ in points)
        low, high = min(y for _, y in points), max(y for _, y in points)
        # Whole numbers only: hundredths of a unit, the smaller of the two ways to fill the square.
        by_height = (_CAPITAL * 100, upem * 714 // 1000)
        by_width = (_LETTERS_WIDTH * 100, right - left)
        up, down = min(by_height, by_width, key=lambda way: Decimal(way[0]) / way[1])
        half = MARK_SIZE * 50

        def place(x: int, y: int) -> str:
            across = half + (2 * x - left - right) * up // (2 * down)
            along = half - (2 * y - low - high) * up // (2 * down)
            return f"{_hundredths(across)} {_hundredths(along)}"

        return "".join(
            letter + " ".join(place(x, y) for x, y in group) for letter, group in self.steps
        )


def _hundredths(value: int) -> str:
    return f"{Decimal(value).scaleb(-2):f}"
