"""Charts drawn on the server: plain numbers become the coordinates of an accessible SVG.

They print, they need no script, and every figure in them is also text.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Final

from billing.templatetags.billing_format import count, digits

_WIDTH, _LEFT, _RIGHT = 560, 40, 554
_TOP, _BOTTOM = 12, 164
_COLUMN_MAX: Final = 34
_STEPS: Final = 3
_BAR_WIDTH: Final = 1000


@dataclass(frozen=True, slots=True)
class Column:
    """One month of a chart: where its column stands and what it says."""

    label: str
    middle: str
    path: str
    text: str
    top: str
    is_now: bool


@dataclass(frozen=True, slots=True)
class Rule:
    """A horizontal line and the figure beside it."""

    y: str
    text_y: str
    text: str


@dataclass(frozen=True, slots=True)
class Chart:
    """A column chart over months; `unit` names what the figures are."""

    name: str
    title: str
    description: str
    unit: str
    columns: list[Column]
    rules: list[Rule]
    rows: list[tuple[str, str]]


@dataclass(frozen=True, slots=True)
class Part:
    """One coloured part of a bar."""

    css: str
    label: str
    x: str
    width: str
    text: str


def columns(
    *, name: str, title: str, unit: str, months: Sequence[tuple[str, Decimal]], places: int
) -> Chart:
    """A column for each month, the last one emphasised; the axis ends at a round figure."""
    ceiling = _round_up(max((value for _, value in months), default=Decimal(0)))
    scale = (_BOTTOM - _TOP) / float(ceiling)
    slot = (_RIGHT - _LEFT) / max(len(months), 1)
    width = min(slot * 0.58, _COLUMN_MAX)
    drawn = []
    for position, (label, value) in enumerate(months):
        middle = _LEFT + slot * (position + 0.5)
        height = float(value) * scale
        top = _BOTTOM - height
        corner = min(3.0, height)
        left, inner = middle - width / 2, width - 2 * corner
        path = (
            f"M{left:.1f} {_BOTTOM}V{top + corner:.1f}q0-{corner:.1f} {corner:.1f}-{corner:.1f}"
            f"h{inner:.1f}q{corner:.1f} 0 {corner:.1f} {corner:.1f}V{_BOTTOM}z"
        )
        drawn.append(
            Column(
                label=label,
                middle=f"{middle:.1f}",
                path=path,
                text=digits(value, places),
                top=f"{top - 6:.1f}",
                is_now=position == len(months) - 1,
            )
        )
    first, last = (months[0], months[-1]) if months else (("", Decimal(0)), ("", Decimal(0)))
    return Chart(
        name=name,
        title=title,
        description=(
            f"{len(months)} months, from {digits(first[1], places)} in {first[0]}"
            f" to {digits(last[1], places)} {unit} in {last[0]}."
        ),
        unit=unit,
        columns=drawn,
        rules=[_rule(ceiling * step / _STEPS, scale) for step in range(_STEPS + 1)],
        rows=[(label, digits(value, places)) for label, value in months],
    )


def _rule(value: Decimal, scale: float) -> Rule:
    y = _BOTTOM - float(value) * scale
    return Rule(y=f"{y:.1f}", text_y=f"{y + 4:.1f}", text=_short(value))


def _short(value: Decimal) -> str:
    for size, letter in ((1_000_000, "M"), (1_000, "k")):
        if value >= size:
            return f"{digits((value / size).quantize(Decimal('0.1')), 0)}{letter}"
    return digits(value.quantize(Decimal("0.1")), 0)


def _round_up(value: Decimal) -> Decimal:
    """The smallest of 3, 6, 9, 15, 30, 60 … that is not below `value`: thirds stay round."""
    size = Decimal(1)
    while True:
        for leading in (Decimal("1.5"), Decimal(3), Decimal(6), Decimal(9)):
            if value <= leading * size:
                return leading * size
        size *= 10


def bar(parts: Sequence[tuple[str, str, Decimal | int, str]], *, gap: float = 2.5) -> list[Part]:
    """A horizontal bar of (css, label, size, text) in proportion; parts of no size are left out.

    A part too thin to see is drawn two units wide, so that nothing that exists is invisible.
    """
    total = float(sum(size for _, _, size, _ in parts))
    shown = [(css, label, float(size), text) for css, label, size, text in parts if size > 0]
    if not total or not shown:
        return []
    room = _BAR_WIDTH - gap * (len(shown) - 1)
    widths = [max(size / total * room, 4.0) for _, _, size, _ in shown]
    shrink = room / sum(widths)
    x = 0.0
    drawn = []
    for (css, label, _, text), width in zip(shown, widths, strict=True):
        drawn.append(
            Part(css=css, label=label, x=f"{x:.1f}", width=f"{width * shrink:.1f}", text=text)
        )
        x += width * shrink + gap
    return drawn


def people_count(number: int, one: str, many: str) -> str:
    """`1 invoice`, `23 invoices`."""
    return f"{count(number)} {one if number == 1 else many}"
