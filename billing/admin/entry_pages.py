"""Forms that hand one thing to one service: money that arrived, credits that are given.

Each form carries a token of its own, so that sending it twice does it once.
"""

from collections.abc import Callable
from datetime import UTC, datetime, time, timedelta
from typing import Any, Final
from uuid import uuid4

from django import forms
from django.contrib import messages
from django.contrib.admin.widgets import AutocompleteSelect
from django.core.exceptions import PermissionDenied
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.template.response import TemplateResponse
from django.urls import reverse
from django.utils import timezone

from accounts import access
from billing import credits, payments
from billing.admin import choices
from billing.admin.base import DateInput
from billing.errors import BillingError
from billing.models import CreditGrant, Customer, Payment
from billing.templatetags.billing_format import credit_amount, money_text

TEMPLATE: Final = "admin/entry.html"
_KINDS: Final = [
    (kind.value, kind.label)
    for kind in (
        CreditGrant.Kind.PROMOTIONAL,
        CreditGrant.Kind.GOODWILL,
        CreditGrant.Kind.ADJUSTMENT,
    )
]


class TokenForm(forms.Form):
    """A form that is done once, however often it is sent."""

    token = forms.UUIDField(widget=forms.HiddenInput, initial=uuid4)


class PaymentForm(TokenForm):
    """Money that arrived."""

    customer = forms.ModelChoiceField(Customer.objects.none(), help_text="Who paid.")
    amount = forms.DecimalField(min_value=0, max_digits=18, decimal_places=3)
    currency = forms.CharField(
        required=False, max_length=3, help_text="Empty takes the customer's currency."
    )
    received_on = forms.DateField(
        label="Value date", widget=DateInput(), help_text="The day the bank booked it."
    )
    method = forms.ChoiceField(choices=Payment.Method.choices)
    reference = forms.CharField(required=False, max_length=140)
    payer = forms.CharField(required=False, max_length=120, help_text="If somebody else paid.")

    def __init__(self, *args: Any, request: HttpRequest, site: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        customer: Any = self.fields["customer"]
        customer.queryset = access.scoped(
            Customer.objects.all(), request.user, "record_payments", "pk"
        )
        customer.widget = AutocompleteSelect(Payment._meta.get_field("customer"), site)
        customer.widget.choices = customer.choices
        self.fields["currency"].widget = forms.Select(choices=choices.options("currency"))


class CreditsForm(TokenForm):
    """Credits nobody pays for."""

    amount = forms.DecimalField(
        label="Credits", min_value=0, max_digits=20, decimal_places=6, help_text="How many."
    )
    kind = forms.ChoiceField(choices=_KINDS)
    label = forms.CharField(
        required=False, max_length=120, help_text="What the customer sees, such as Summer bonus."
    )
    expires_on = forms.DateField(
        label="Last day",
        required=False,
        widget=DateInput(),
        help_text="They expire when this day ends. Empty: never.",
    )
    reason = forms.CharField(
        max_length=200,
        widget=forms.Textarea(attrs={"rows": 3}),
        help_text="Required. It is kept in the ledger with your name.",
    )

    def clean_expires_on(self) -> Any:
        """A day that has not passed."""
        day = self.cleaned_data["expires_on"]
        if day is not None and day < timezone.localdate():
            raise forms.ValidationError("This day has passed.")
        return day


def record_payment_view(model_admin: Any) -> Callable[..., HttpResponse]:
    """Record a payment; it settles the customer's oldest invoices of its currency."""

    def view(request: HttpRequest) -> HttpResponse:
        if access.visible_customer_ids(request.user, "record_payments") == access.NOTHING:
            raise PermissionDenied
        form = PaymentForm(
            request.POST or None,
            request=request,
            site=model_admin.admin_site,
            initial={"received_on": timezone.localdate(), "customer": request.GET.get("customer")},
        )
        if request.method == "POST" and form.is_valid():
            done = _record(request, form)
            if done is not None:
                return HttpResponseRedirect(done)
        shown = {
            "title": "Record a payment",
            "lead": "It settles the oldest open invoices first. What is left stays on account.",
            "form": form,
            "button": "Record the payment",
            "back": reverse("admin:billing_payment_changelist"),
            "opts": model_admin.opts,
        }
        context = model_admin.admin_site.each_context(request) | shown
        return TemplateResponse(request, TEMPLATE, context)

    return view


def _record(request: HttpRequest, form: PaymentForm) -> str | None:
    given = form.cleaned_data
    customer: Customer = given["customer"]
    try:
        payment = payments.record(
            customer_id=customer.pk,
            currency=given["currency"] or customer.currency,
            amount=given["amount"],
            received_on=given["received_on"],
            method=given["method"],
            reference=given["reference"],
            payer=given["payer"],
            key=f"form:{given['token']}",
            recorded_by_id=request.user.pk,
        )
    except BillingError as refusal:
        form.add_error(None, str(refusal))
        return None
    text = f"{money_text(payment.amount, payment.currency)} of {customer.name} is recorded."
    messages.success(request, text)
    return reverse("admin:billing_payment_change", args=[payment.pk])


def give_credits_view(model_admin: Any) -> Callable[..., HttpResponse]:
    """Give credits to a customer, for a reason."""

    def view(request: HttpRequest, customer_id: int) -> HttpResponse:
        customer = model_admin.get_object(request, str(customer_id))
        if not access.may(request.user, "grant_credits", customer.pk):
            raise PermissionDenied
        back = reverse("admin:billing_customer_change", args=[customer.pk])
        form = CreditsForm(request.POST or None)
        if request.method == "POST" and form.is_valid() and _give(request, form, customer):
            return HttpResponseRedirect(back)
        shown = {
            "title": f"Give credits to {customer.name}",
            "lead": "They can be used at once. What is given is never edited; it can be voided.",
            "form": form,
            "button": "Give the credits",
            "back": back,
            "opts": model_admin.opts,
        }
        context = model_admin.admin_site.each_context(request) | shown
        return TemplateResponse(request, TEMPLATE, context)

    return view


def _give(request: HttpRequest, form: CreditsForm, customer: Customer) -> bool:
    given = form.cleaned_data
    last = given["expires_on"]
    try:
        credits.give(
            customer.pk,
            key=f"form:{given['token']}",
            kind=given["kind"],
            amount=given["amount"],
            at=timezone.now(),
            actor=request.user.get_username(),
            reason=given["reason"],
            request_id=getattr(request, "request_id", "") or str(given["token"]),
            expires_at=datetime.combine(last + timedelta(days=1), time.min, UTC) if last else None,
            label=given["label"],
        )
    except (BillingError, ValueError) as refusal:
        form.add_error(None, str(refusal))
        return False
    messages.success(request, f"{credit_amount(given['amount'])} credits are given.")
    return True
