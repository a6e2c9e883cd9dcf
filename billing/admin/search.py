"""One box for everything: a number, a customer, a VAT ID, an e-mail, an amount.

Each kind of thing is asked by itself, in its own index, and shows its best few; an OR across
tables would read them whole. What the reader may not see is not searched.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from decimal import Decimal, InvalidOperation
from typing import Final, TypeVar
from urllib.parse import urlencode

from django.db.models import Model, Q, QuerySet
from django.urls import reverse

from billing.admin.scope import Scope
from billing.models import Contact, Customer, Invoice, Payment
from billing.templatetags.billing_format import day, money_text, span_text

HITS_MAX: Final = 12
Row = TypeVar("Row", bound=Model)
_AMOUNT: Final = re.compile(
    r"^(?P<sign>[<>]=?|=)?\s*(?P<digits>[0-9][0-9,'\u00a0 ]*(?:\.[0-9]+)?)$"
)
_LOOKUPS: Final = {"": "exact", "=": "exact", ">": "gt", ">=": "gte", "<": "lt", "<=": "lte"}


@dataclass(frozen=True, slots=True)
class Hit:
    """One thing found."""

    title: str
    note: str
    kind: str
    url: str


@dataclass(frozen=True, slots=True)
class Hits:
    """What was found of one kind, best first."""

    title: str
    hits: list[Hit]
    all_url: str


@dataclass(frozen=True, slots=True)
class AmountAsked:
    """An amount someone typed, with how it compares: `1234.56`, `>1000`."""

    lookup: str
    value: Decimal


def parse_amount(text: str) -> AmountAsked | None:
    """The amount in a search text, or None when it is none."""
    match = _AMOUNT.match(text.strip())
    if match is None:
        return None
    plain = re.sub(r"[,'\u00a0 ]", "", match["digits"])
    try:
        value = Decimal(plain)
    except InvalidOperation:
        return None
    if value >= Decimal(10) ** 14:
        return None
    return AmountAsked(_LOOKUPS[match["sign"] or ""], value)


def search(scope: Scope, text: str) -> list[Hits]:
    """Everything the reader may see that fits `text`, grouped by what it is."""
    wanted = text.strip()[:200].replace("\x00", "")
    if not wanted:
        return []
    found = [
        Hits("Customers", _customers(scope, wanted), _list("customer", wanted)),
        Hits("Invoices", _invoices(scope, wanted), _list("invoice", wanted)),
        Hits("Payments", _payments(scope, wanted), _list("payment", wanted)),
    ]
    return [group for group in found if group.hits]


def _list(model: str, text: str) -> str:
    return f"{reverse(f'admin:billing_{model}_changelist')}?{urlencode({'q': text})}"


def _change(model: str, pk: int) -> str:
    return reverse(f"admin:billing_{model}_change", args=[pk])


def _customers(scope: Scope, text: str) -> list[Hit]:
    seen = scope.limit(Customer.objects.all(), "view_customer", "pk")
    asked = (
        Q(code__iexact=text) | Q(vat_id__iexact=text.replace(" ", "")),
        Q(name__istartswith=text),
        Q(email__icontains=text) if "@" in text else Q(name__icontains=text),
    )
    found = {customer.pk: customer for part in asked for customer in _few(seen.filter(part))}
    if "@" in text:
        people = scope.limit(Contact.objects.filter(email__icontains=text), "view_customer")
        for contact in _few(people.select_related("customer")):
            found.setdefault(contact.customer_id, contact.customer)
    return [
        Hit(
            title=customer.name,
            note=", ".join(
                part for part in (customer.code, customer.city, customer.vat_id) if part
            ),
            kind=customer.country,
            url=_change("customer", customer.pk),
        )
        for customer in list(found.values())[:HITS_MAX]
    ]


def _invoices(scope: Scope, text: str) -> list[Hit]:
    seen = scope.limit(Invoice.objects.select_related("customer"), "view_invoices")
    asked = parse_amount(text)
    number = Q(number__iexact=text), Q(number__icontains=text)
    found = {invoice.pk: invoice for part in number for invoice in _few(seen.filter(part))}
    if asked is not None:
        amount = seen.filter(**{f"payable__{asked.lookup}": asked.value})
        found |= {invoice.pk: invoice for invoice in _few(amount.order_by("-payable", "-pk"))}
    return [_invoice_hit(invoice) for invoice in list(found.values())[:HITS_MAX]]


def _invoice_hit(invoice: Invoice) -> Hit:
    return Hit(
        title=f"{invoice} · {invoice.customer.name}",
        note=f"{money_text(invoice.payable, invoice.currency)}, "
        f"{span_text(invoice.supply_from, invoice.supply_to)}",
        kind=invoice.get_state_display(),
        url=_change("invoice", invoice.pk),
    )


def _payments(scope: Scope, text: str) -> list[Hit]:
    seen = scope.limit(Payment.objects.select_related("customer"), "view_payments")
    asked = parse_amount(text)
    part = Q(reference__icontains=text)
    found = {payment.pk: payment for payment in _few(seen.filter(part))}
    if asked is not None:
        amount = seen.filter(**{f"amount__{asked.lookup}": asked.value})
        found |= {payment.pk: payment for payment in _few(amount.order_by("-amount", "-pk"))}
    return [
        Hit(
            title=f"{money_text(payment.amount, payment.currency)} · {payment.customer.name}",
            note=", ".join(p for p in (day(payment.received_on), payment.reference) if p),
            kind=payment.get_method_display(),
            url=_change("payment", payment.pk),
        )
        for payment in list(found.values())[:HITS_MAX]
    ]


def _few(queryset: QuerySet[Row]) -> Iterator[Row]:
    yield from queryset[:HITS_MAX]
