"""Text from outside, made harmless for a typesetter: bounded, no controls, no piles of accents."""

import re
import unicodedata
from collections.abc import Sequence
from typing import Any, Final

NAME_MAX: Final = 200
ADDRESS_LINE_MAX: Final = 120
ADDRESS_LINES_MAX: Final = 6
NOTE_MAX: Final = 2_000
COMBINING_MAX: Final = 4  # in a row; no living language needs more

_ELLIPSIS: Final = "\u2026"
# Controls, and the marks that turn the direction of what follows.
_UNWANTED: Final = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\u200b\u200e\u200f\u2028-\u202e\u2060-\u206f\ufeff\ufff0-\ufffb"
    "\ufffe\uffff\ud800-\udfff]"
)
_SPACES: Final = re.compile(r"[ \t\n\u00a0]+")
_PLAIN: Final = re.compile(r"[ -~]*\Z")


def line(text: Any, limit: int = NAME_MAX) -> str:
    """One line of at most `limit` characters; a cut shows as an ellipsis. None is nothing."""
    if text is None:
        return ""
    # Cut far beyond the limit first, so that the careful steps below only ever see little text.
    raw = str(text)[: 4 * limit + 64]
    if not _PLAIN.match(raw):
        raw = _stacked(unicodedata.normalize("NFC", _UNWANTED.sub("", raw)))
    raw = _SPACES.sub(" ", raw).strip()
    return raw if len(raw) <= limit else raw[: limit - 1].rstrip() + _ELLIPSIS


def block(text: Any, limit: int = NOTE_MAX) -> str:
    """Text of several lines, at most `limit` characters and 40 lines in all."""
    rows = str(text or "")[: 4 * limit + 64].replace("\r\n", "\n").replace("\r", "\n").split("\n")
    kept = "\n".join(line(row, limit) for row in rows[:40]).strip()
    return kept if len(kept) <= limit else kept[: limit - 1].rstrip() + _ELLIPSIS


def lines(parts: Sequence[Any], limit: int = ADDRESS_LINE_MAX) -> list[str]:
    """The parts that say something, each on a line of its own."""
    return [text for part in parts if (text := line(part, limit))]


def width(text: str) -> int:
    """A careful guess of how wide a line is set, in thousandths of an em."""
    if text.isascii():
        narrow = sum(text.count(letter) for letter in "iljtfrI.,:;'|! ()-")
        wide = sum(text.count(letter) for letter in "MWmw@%")
        capitals = sum(map(str.isupper, text))
        return 570 * len(text) - 250 * narrow + 330 * wide + 80 * capitals
    return sum(1_000 if unicodedata.east_asian_width(sign) in "WF" else 620 for sign in text)


def fitting(text: Any, room: int) -> str:
    """One line that is no wider than `room` thousandths of an em; a cut shows as an ellipsis."""
    whole = line(text, NAME_MAX)
    if width(whole) <= room:
        return whole
    kept = len(whole)
    while kept > 1 and width(whole[:kept]) > room - 1_000:
        kept -= 1 + kept // 20
    return whole[: max(kept, 1)].rstrip() + _ELLIPSIS


def rows(text: str, per_row: int) -> int:
    """How many rows a line takes where a row holds `per_row` thousandths of an em."""
    return max(1, -(-width(text) // per_row))


def _stacked(text: str) -> str:
    """The text with at most COMBINING_MAX marks on one letter."""
    kept: list[str] = []
    marks = 0
    for sign in text:
        marks = marks + 1 if unicodedata.category(sign)[0] == "M" else 0
        if marks <= COMBINING_MAX:
            kept.append(sign)
    return "".join(kept)
