"""Document totals after EN 16931: lines, VAT groups and the exact identities between them.

Rounded are each line once and each VAT group once; every other figure is a sum.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from fractions import Fraction

from billing.rules.money import ZERO, Exact, Rounding, Unit, minor_unit, quantize, split


@dataclass(frozen=True, slots=True)
class Amount:
    """A net amount (a line, an allowance, a charge) with its VAT category and rate in percent."""

    net: Decimal
    category: str
    rate: Decimal


@dataclass(frozen=True, slots=True)
class TaxGroup:
    """What one (category, rate) group is taxed."""

    category: str
    rate: Decimal  # percent
    taxable: Decimal
    tax: Decimal


@dataclass(frozen=True, slots=True)
class Totals:
    """The figures at the foot of a document, all booked money of one currency."""

    lines: Decimal  # BT-106 sum of line nets
    allowances: Decimal  # BT-107
    charges: Decimal  # BT-108
    net: Decimal  # BT-109
    groups: tuple[TaxGroup, ...]  # BG-23
    tax: Decimal  # BT-110
    gross: Decimal  # BT-112
    paid: Decimal  # BT-113
    rounding: Decimal  # BT-114
    payable: Decimal  # BT-115


def line_net(
    quantity: Exact,
    unit_price: Exact,
    unit: Unit,
    *,
    base_quantity: Exact = 1,
    charges: Iterable[Decimal] = (),
    allowances: Iterable[Decimal] = (),
) -> Decimal:
    """`round(quantity · price / base + charges − allowances)`, rounded once.

    >>> line_net(Decimal(1500), Decimal("0.50"), "EUR", base_quantity=1000)
    Decimal('0.75')
    """
    exact = Fraction(quantity) * Fraction(unit_price) / Fraction(base_quantity)
    exact += sum(map(Fraction, charges)) - sum(map(Fraction, allowances))
    return quantize(exact, unit)


def totals(
    lines: Sequence[Amount],
    unit: Unit,
    *,
    allowances: Sequence[Amount] = (),
    charges: Sequence[Amount] = (),
    paid: Decimal = ZERO,
    rounding: Decimal = ZERO,
    tax_rounding: Rounding = "half_up",
) -> Totals:
    """The totals of a document. Document allowances are given as positive amounts.

    rounding: BT-114, a signed amount chosen by the issuing entity.

    >>> t = totals([Amount(Decimal("100.00"), "S", Decimal(23))], "EUR")
    >>> t.net, t.tax, t.gross, t.payable
    (Decimal('100.00'), Decimal('23.00'), Decimal('123.00'), Decimal('123.00'))
    """
    signed = [(line, line.net) for line in (*lines, *charges)]
    signed += [(allowance, -allowance.net) for allowance in allowances]
    sums: dict[tuple[str, Decimal], Decimal] = {}
    for amount, net in signed:
        key = (amount.category, amount.rate)
        sums[key] = sums.get(key, ZERO) + net
    groups = tuple(
        TaxGroup(
            category,
            rate,
            quantize(taxable, unit),
            tax_of(taxable, rate, unit, rounding=tax_rounding),
        )
        for (category, rate), taxable in sorted(sums.items(), key=lambda kv: (kv[0][0], -kv[0][1]))
    )
    zero = quantize(0, unit)
    line_sum = sum((line.net for line in lines), zero)
    allowance_sum = sum((allowance.net for allowance in allowances), zero)
    charge_sum = sum((charge.net for charge in charges), zero)
    net = line_sum - allowance_sum + charge_sum
    tax = sum((group.tax for group in groups), zero)
    gross = net + tax
    result = Totals(
        lines=line_sum,
        allowances=allowance_sum,
        charges=charge_sum,
        net=net,
        groups=groups,
        tax=tax,
        gross=gross,
        paid=paid + zero,
        rounding=rounding + zero,
        payable=gross - paid + rounding,
    )
    check(result)
    return result


@dataclass(frozen=True, slots=True)
class Inclusive:
    """One VAT group whose prices include the VAT."""

    nets: tuple[Decimal, ...]  # one for each gross amount given
    tax: Decimal
    rounding: Decimal  # what no net can reach, at most a coin; goes to BT-114


def from_gross(grosses: Sequence[Decimal], rate: Exact, unit: Unit) -> Inclusive:
    """The nets of one group from prices that include VAT.

    The group's net T is the one that brings T + round(T·rate) closest to the sum of the grosses,
    the smaller one of two; it is shared over the lines by largest remainder.

    >>> found = from_gross([Decimal("10.00"), Decimal("10.00")], 23, "EUR")
    >>> found.nets, found.tax, found.rounding
    ((Decimal('8.13'), Decimal('8.13')), Decimal('3.74'), Decimal('0.00'))
    """
    gross = sum(grosses, quantize(0, unit))
    step = minor_unit(unit)
    near = quantize(Fraction(gross) / (1 + Fraction(rate) / 100), unit)
    net = min(
        (near - step, near, near + step),
        key=lambda candidate: (
            abs(candidate + tax_of(candidate, rate, unit) - gross),
            abs(candidate),
        ),
    )
    tax = tax_of(net, rate, unit)
    signs = {amount < 0 for amount in grosses if amount}
    if len(signs) > 1:
        nets = _shared_signed(net, grosses, rate, unit)
    else:
        nets = split(net, [abs(amount) for amount in grosses], unit)
    return Inclusive(tuple(nets), tax, gross - net - tax)


def _shared_signed(
    net: Decimal, grosses: Sequence[Decimal], rate: Exact, unit: Unit
) -> list[Decimal]:
    """Charges and credits together: each its own net, the coins left over to the largest line."""
    nets = [quantize(Fraction(gross) / (1 + Fraction(rate) / 100), unit) for gross in grosses]
    largest = max(range(len(nets)), key=lambda n: (abs(nets[n]), -n))
    nets[largest] += net - sum(nets, ZERO)
    return nets


def per_line_totals(
    nets: Sequence[Exact], rate: Exact, unit: Unit, *, rounding: Rounding = "half_up"
) -> tuple[Decimal, Decimal]:
    """Net and gross when net and VAT are rounded line by line, as some foreign documents do."""
    lines = [quantize(net, unit, rounding=rounding) for net in nets]
    net = sum(lines, quantize(0, unit))
    return net, net + sum((tax_of(line, rate, unit, rounding=rounding) for line in lines), ZERO)


@dataclass(frozen=True, slots=True)
class StackedLine:
    """A net amount that several taxes apply to."""

    net: Decimal
    rates: tuple[Decimal, ...]  # percent


@dataclass(frozen=True, slots=True)
class StackedTotals:
    """Totals where taxes stack; `line_taxes` are shown beside the lines, for information."""

    net: Decimal
    tax: Decimal
    line_taxes: tuple[Decimal, ...]

    @property
    def gross(self) -> Decimal:
        """Net and taxes."""
        return self.net + self.tax


def stacked_totals(lines: Sequence[StackedLine], unit: Unit) -> StackedTotals:
    """Each tax once, on all that carries it; rounded once per rate."""
    zero = quantize(0, unit)
    groups: dict[Decimal, Decimal] = {}
    for line in lines:
        for rate in line.rates:
            groups[rate] = groups.get(rate, zero) + line.net
    return StackedTotals(
        net=sum((line.net for line in lines), zero),
        tax=sum((tax_of(net, rate, unit) for rate, net in groups.items()), zero),
        line_taxes=tuple(tax_of(line.net, sum(line.rates, ZERO), unit) for line in lines),
    )


def holds(rule: str, figures: Mapping[str, Decimal | Sequence[Decimal]]) -> bool:
    """Whether stated totals satisfy an identity of EN 16931 exactly; missing terms are 0.

    Figures by name: lines, allowances, charges, taxes (lists), line_total, allowance_total,
    charge_total, tax_exclusive, tax_total, tax_inclusive, prepaid, payable_rounding, payable.
    """

    def one(name: str) -> Decimal:
        value = figures.get(name, ZERO)
        return value if isinstance(value, Decimal) else sum(value, ZERO)

    identities = {
        "BR-CO-10": ("line_total", one("lines")),
        "BR-CO-11": ("allowance_total", one("allowances")),
        "BR-CO-12": ("charge_total", one("charges")),
        "BR-CO-13": (
            "tax_exclusive",
            one("line_total") - one("allowance_total") + one("charge_total"),
        ),
        "BR-CO-14": ("tax_total", one("taxes")),
        "BR-CO-15": ("tax_inclusive", one("tax_exclusive") + one("tax_total")),
        "BR-CO-16": (
            "payable",
            one("tax_inclusive") - one("prepaid") + one("payable_rounding"),
        ),
    }
    stated, sums_to = identities[rule]
    return one(stated) == sums_to


def is_accepted(
    stated: Decimal, taxable: Exact, rate: Exact, unit: Unit, *, tolerance: Decimal = ZERO
) -> bool:
    """Whether a stated VAT amount is right; a tolerance is for documents we receive only."""
    return abs(stated - tax_of(taxable, rate, unit)) <= tolerance


def group_taxable(
    lines: Iterable[Decimal], charges: Iterable[Decimal] = (), allowances: Iterable[Decimal] = ()
) -> Decimal:
    """What one VAT group is taxed on: line nets plus document charges less allowances."""
    return sum(lines, ZERO) + sum(charges, ZERO) - sum(allowances, ZERO)


def tax_of(taxable: Exact, rate: Exact, unit: Unit, *, rounding: Rounding = "half_up") -> Decimal:
    """VAT on a taxable amount; `rate` in percent; rounded once."""
    return quantize(Fraction(taxable) * Fraction(rate) / 100, unit, rounding=rounding)


def check(document: Totals) -> None:
    """Raise ValueError unless every identity of the document holds exactly."""
    for broken in broken_identities(document):
        raise ValueError(broken)


def broken_identities(document: Totals) -> list[str]:
    """The identities that do not hold, each as a sentence; empty for a sound document."""
    identities = (
        (
            "the amount without VAT is lines − allowances + charges",
            document.net,
            document.lines - document.allowances + document.charges,
        ),
        (
            "the taxable amounts add up to the amount without VAT",
            sum((group.taxable for group in document.groups), ZERO),
            document.net,
        ),
        (
            "the VAT is the sum of its groups",
            document.tax,
            sum((group.tax for group in document.groups), ZERO),
        ),
        (
            "the amount with VAT is net + VAT",
            document.gross,
            document.net + document.tax,
        ),
        (
            "payable is the amount with VAT − paid + rounding",
            document.payable,
            document.gross - document.paid + document.rounding,
        ),
    )
    return [f"{text}: {left} is not {right}" for text, left, right in identities if left != right]
