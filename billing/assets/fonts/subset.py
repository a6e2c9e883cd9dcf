"""Makes the document fonts of this folder from Noto Sans. Run by hand; README.md says how.

    python billing/assets/fonts/subset.py /usr/share/fonts/truetype/noto

Latin, Greek, Cyrillic, punctuation and currency signs are kept, the rest is dropped, and the family
is renamed, so that a Noto Sans installed on a machine never takes the place of ours.
"""

import sys
from pathlib import Path

from fontTools import subset
from fontTools.ttLib import TTFont

FAMILY = "Keter Sans"
KEPT = (
    (0x0020, 0x007E),  # Basic Latin
    (0x00A0, 0x024F),  # Latin-1, Latin Extended-A and -B
    (0x0259, 0x0259),
    (0x02BB, 0x02DD),  # modifier letters and spacing accents
    (0x0300, 0x0331),  # combining accents
    (0x0370, 0x03FF),  # Greek
    (0x0400, 0x052F),  # Cyrillic
    (0x1E00, 0x1EFF),  # Latin Extended Additional
    (0x2002, 0x2027),  # spaces, dashes, quotation marks, ellipsis
    (0x202F, 0x203A),
    (0x2044, 0x2044),
    (0x2070, 0x208E),  # raised and lowered digits
    (0x20A0, 0x20BF),  # currency signs
    (0x2113, 0x2126),  # litre, numero, trade mark, ohm
    (0x2153, 0x215E),  # fractions
    (0x2190, 0x2193),
    (0x2212, 0x2212),
    (0x2260, 0x2265),
    (0xFB01, 0xFB02),
    (0xFFFD, 0xFFFD),
)


def make(source: Path, target: Path, style: str) -> None:
    """Write one pre-subset style of the family to `target`."""
    options = subset.Options(
        layout_features=["kern", "mark", "mkmk", "ccmp", "locl"],
        hinting=False,
        notdef_outline=True,
        name_IDs=[0, 1, 2, 3, 4, 5, 6, 13, 14],
        drop_tables=["DSIG"],
        recalc_timestamp=False,
    )
    font = TTFont(source, recalcTimestamp=False)
    subsetter = subset.Subsetter(options)
    subsetter.populate(unicodes=[c for first, last in KEPT for c in range(first, last + 1)])
    subsetter.subset(font)
    postscript = f"{FAMILY.replace(' ', '')}-{style}"
    texts = {1: FAMILY, 2: style, 3: f"{postscript} from Noto Sans", 4: f"{FAMILY} {style}"}
    for record in list(font["name"].names):
        if text := (texts | {6: postscript}).get(record.nameID):
            record.string = text
    font.save(target)


if __name__ == "__main__":
    here = Path(__file__).parent
    for style in ("Regular", "Bold"):
        make(Path(sys.argv[1]) / f"NotoSans-{style}.ttf", here / f"KeterSans-{style}.ttf", style)
