"""Money received and what it pays. Everything by new rows; nothing is edited."""

from collections.abc import Mapping
from datetime import date
from decimal import Decimal
from fractions import Fraction

from django.db import IntegrityError, transaction
from django.db.models import F, Sum

from billing import audit, journal
from billing.errors import BillingError, IdempotencyConflict, MissingData
from billing.models import (
    Allocation,
    Customer,
    Invoice,
    InvoiceBalance,
    LegalEntity,
    Payment,
)
from billing.rules import books
from billing.rules.money import ZERO, quantize


class CannotAllocate(BillingError):
    """The payment or the invoice does not have that much left."""

    code = "cannot_allocate"


@transaction.atomic
def record(
    *,
    customer_id: int,
    currency: str,
    amount: Decimal,
    received_on: date,
    method: str,
    reference: str,
    key: str,
    recorded_by_id: int | None,
    payer: str = "",
    allocate: Mapping[int, Decimal] | None = None,
) -> Payment:
    """Record money received and apply it; the same `key` gives back the same payment.

    allocate: invoice id to amount; None applies it to the oldest due invoices of that currency
    (due date, then number). What is left is customer money.
    Raises MissingData for an amount that is not positive or not in whole coins, CannotAllocate
    when an instruction exceeds what is due or received, IdempotencyConflict when the key was used
    for another payment.
    """
    if not _is_coins(amount, currency):
        raise MissingData(
            f"A payment is a positive amount in whole coins, not {amount} {currency}."
        )
    customer = Customer.objects.select_for_update(no_key=True).get(pk=customer_id)
    standing = Payment.objects.filter(key=key).first()
    if standing is not None:
        same = (
            standing.customer_id,
            standing.currency,
            standing.amount,
            standing.received_on,
            standing.method,
            standing.reference,
        )
        if same != (customer_id, currency, amount, received_on, method, reference):
            raise IdempotencyConflict(f"{key} was already used for a different payment")
        return standing
    try:
        with transaction.atomic():
            payment = Payment.objects.create(
                legal_entity_id=customer.legal_entity_id,
                customer=customer,
                currency=currency,
                amount=amount,
                received_on=received_on,
                method=method,
                reference=reference,
                payer=payer,
                key=key,
                recorded_by_id=recorded_by_id,
            )
    except IntegrityError as clash:
        if Payment.objects.filter(key=key).exists():  # another customer's took it meanwhile
            raise IdempotencyConflict(f"{key} was already used for a different payment") from clash
        raise
    journal.post(
        journal.Draft(
            key=f"payment:{payment.pk}:received",
            recipe="payment_received",
            legal_entity_id=customer.legal_entity_id,
            currency=currency,
            booked_on=received_on,
            customer_id=customer_id,
            payment_id=payment.pk,
            legs=books.payment_received(
                amount=amount,
                into="gateway_clearing" if method == Payment.Method.CARD else "bank",
            ),
        )
    )
    audit.record(
        "payment recorded",
        subject=f"payment:{payment.pk}",
        actor_id=recorded_by_id,
        customer_id=customer_id,
        after={"amount": str(amount), "currency": currency, "reference": reference},
    )
    wanted = (
        dict(allocate) if allocate is not None else _oldest_first(customer_id, currency, amount)
    )
    for invoice_id, part in wanted.items():
        _allocate(payment, invoice_id, part)
    return payment


def customer_money(customer_id: int, currency: str) -> Decimal:
    """Money received and not applied, in currency units."""
    received = Payment.objects.filter(customer_id=customer_id, currency=currency).aggregate(
        total=Sum("amount")
    )["total"]
    applied = Allocation.objects.filter(
        customer_id=customer_id, payment__currency=currency
    ).aggregate(total=Sum("amount"))["total"]
    return (received or ZERO) - (applied or ZERO)


def _is_coins(amount: Decimal, currency: str) -> bool:
    return amount.is_finite() and amount > 0 and quantize(amount, currency) == amount


def _oldest_first(customer_id: int, currency: str, amount: Decimal) -> dict[int, Decimal]:
    left = amount
    parts: dict[int, Decimal] = {}
    open_balances = (
        InvoiceBalance.objects.filter(customer_id=customer_id, currency=currency, due__gt=0)
        .order_by("due_on", "invoice__number")
        .values_list("invoice_id", "due")
    )
    for invoice_id, due in open_balances:
        if left <= 0:
            break
        parts[invoice_id] = min(due, left)
        left -= parts[invoice_id]
    return parts


def _allocate(payment: Payment, invoice_id: int, amount: Decimal) -> None:
    """Apply part of a payment under the invoice's lock; journal and cached balance with it."""
    invoice = (
        Invoice.objects.select_for_update(no_key=True)
        .filter(pk=invoice_id, customer_id=payment.customer_id)
        .first()
    )
    if invoice is None or invoice.currency != payment.currency:
        raise CannotAllocate(
            f"This customer has no invoice of that kind in {payment.currency} to pay."
        )
    if not _is_coins(amount, payment.currency):
        raise CannotAllocate(f"{amount} {payment.currency} is not a positive amount in coins.")
    taken = InvoiceBalance.objects.filter(invoice=invoice, due__gte=amount).update(
        due=F("due") - amount
    )
    if not taken:
        raise CannotAllocate(f"{invoice} has less than {amount} due.")
    used = payment.allocations.aggregate(total=Sum("amount"))["total"] or ZERO
    if used + amount > payment.amount:
        raise CannotAllocate(f"Only {payment.amount - used} of this payment is left.")
    # Money that came before the invoice settles it on the day the invoice came to be.
    booked_on = max(payment.received_on, invoice.issued_on or payment.received_on)
    allocation = Allocation.objects.create(
        customer_id=payment.customer_id,
        payment=payment,
        invoice=invoice,
        amount=amount,
        booked_on=booked_on,
    )
    journal.post(
        journal.Draft(
            key=f"allocation:{allocation.pk}",
            recipe="allocation",
            legal_entity_id=payment.legal_entity_id,
            currency=payment.currency,
            booked_on=booked_on,
            customer_id=payment.customer_id,
            invoice_id=invoice.pk,
            payment_id=payment.pk,
            legs=books.allocation(amount=amount, taxes=_tax_falling_due(invoice, amount)),
        )
    )


def _tax_falling_due(invoice: Invoice, amount: Decimal) -> list[tuple[str, Decimal]]:
    """Where VAT is due on payment: the share of each group this payment makes due.

    Cumulative, so that the last payment takes the rest. Called after the allocation is written.
    """
    if invoice.legal_entity.vat_due != LegalEntity.VatDue.PAYMENT or not invoice.payable:
        return []
    paid = invoice.allocations.aggregate(total=Sum("amount"))["total"] or ZERO
    before = Fraction(paid - amount) / Fraction(invoice.payable)
    after = Fraction(paid) / Fraction(invoice.payable)
    return [
        (
            f"{group.category} {group.rate}",
            quantize(Fraction(group.tax) * after, invoice.currency)
            - quantize(Fraction(group.tax) * before, invoice.currency),
        )
        for group in invoice.taxes.all()
    ]
