"""The pages of one run: live progress, failures with their cures, and each step's confirmation."""

from collections.abc import Callable, Mapping
from datetime import date
from typing import Any, Final

from django import forms
from django.core.exceptions import PermissionDenied
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect, JsonResponse
from django.template.response import TemplateResponse
from django.urls import reverse
from django.utils import timezone
from django.views.decorators.http import require_safe

from accounts import access
from billing import runs
from billing.admin import charts, states, steps
from billing.admin.base import DateInput
from billing.admin.steps import Fact, Step
from billing.models import InvoiceRun, LegalEntity, Plan, RunItem
from billing.rules.zones import day_in
from billing.templatetags.billing_format import amount, count, month_text, span_text

FAILURES_SHOWN: Final = 100
LATEST_SHOWN: Final = 12
State = InvoiceRun.State
LIVE: Final = (State.PLANNED, *runs.WORKING)


def may(request: HttpRequest, permission: str) -> bool:
    """Whether the reader holds a permission for the whole house; runs concern everybody."""
    return access.may(request.user, permission, None)


# --- Progress ----------------------------------------------------------------------------------


def _bar(progress: runs.Progress) -> list[dict[str, str]]:
    parts = (
        ("done", progress.drafted + progress.issued),
        ("none", progress.nothing),
        ("fail", progress.parked),
        ("track", progress.waiting),
    )
    drawn = {part.css: part for part in charts.bar([(css, css, size, "") for css, size in parts])}
    return [
        {
            "name": css,
            "x": drawn[css].x if css in drawn else "0",
            "width": drawn[css].width if css in drawn else "0",
        }
        for css, _ in parts
    ]


def _speed(progress: runs.Progress) -> str:
    if progress.per_second is None or progress.state not in (State.DRAFTING, State.ISSUING):
        return ""
    speed = f"{count(int(progress.per_second))} customers a second"
    if progress.seconds_left is None:
        return speed
    return f"{speed}, about {_duration(progress.seconds_left)} left"


def _duration(seconds: int) -> str:
    if seconds < 90:
        return charts.people_count(seconds, "second", "seconds")
    return charts.people_count(round(seconds / 60), "minute", "minutes")


def _done(progress: runs.Progress) -> str:
    if progress.state == State.DELIVERING:
        made = progress.documents_ready + progress.documents_parked
        return f"{count(made)} of {count(progress.documents)} documents made"
    if progress.state == State.ISSUING:
        whole = progress.issued + progress.drafted
        return f"{count(progress.issued)} of {count(whole)} invoices issued"
    worked = progress.customers - progress.waiting
    return f"{count(worked)} of {count(progress.customers)} customers"


def live(progress: runs.Progress) -> dict[str, Any]:
    """Progress in words and bar positions, for the page and for its script alike."""
    failed = progress.parked + progress.documents_parked
    return {
        "state": progress.state,
        "percent": f"{progress.share_done} %",
        "done_text": _done(progress),
        "speed_text": _speed(progress),
        "drafted": count(progress.drafted + progress.issued),
        "nothing": count(progress.nothing),
        "failed": count(failed),
        "waiting": count(progress.waiting),
        "bar": _bar(progress),
        "bar_text": (
            f"{count(progress.drafted + progress.issued)} drafted, "
            f"{count(progress.nothing)} with nothing to bill, "
            f"{count(progress.parked)} set aside, {count(progress.waiting)} waiting"
        ),
    }


def progress_view(model_admin: Any) -> Callable[..., HttpResponse]:
    """The run's progress as JSON, for its own page."""

    @require_safe
    def view(request: HttpRequest, run_id: int) -> HttpResponse:
        _visible(model_admin, request, run_id)
        response = JsonResponse(live(runs.progress(run_id)))
        response["Cache-Control"] = "private, no-store"
        return response

    return view


def _visible(model_admin: Any, request: HttpRequest, run_id: int) -> InvoiceRun:
    run: InvoiceRun = model_admin.get_object(request, str(run_id))
    return run


# --- The page ----------------------------------------------------------------------------------


def context(request: HttpRequest, run: InvoiceRun) -> dict[str, Any]:
    """Everything the run's page shows besides its stored fields."""
    progress = runs.progress(run.pk)
    parked = (
        RunItem.objects.filter(run=run, state=RunItem.State.PARKED)
        .select_related("customer")
        .order_by("pk")[:FAILURES_SHOWN]
    )
    drafts = (
        run.invoices.select_related("customer").order_by("-pk")[:LATEST_SHOWN]
        if progress.drafted or progress.issued
        else []
    )
    return {
        "page_title": f"Invoice run, {month_text(run.period.lower, run.period.upper)}",
        "page_badge": states.state(run, states.RUN),
        "page_lead": _lead(run),
        "page_tools": steps.tools(request, run, STEPS, "billing_invoicerun"),
        "progress": live(progress),
        "made_word": "Issued" if progress.issued else "Drafted",
        "is_live": run.state in LIVE,
        "progress_url": reverse("admin:billing_invoicerun_progress", args=[run.pk]),
        "failures": [_failure(item) for item in parked],
        "failures_number": progress.parked,
        "documents_parked": progress.documents_parked,
        "drafts": drafts,
        "run_totals": [
            {
                "currency": currency,
                "invoices": people_count(number),
                "net": amount(net, currency),
                "tax": amount(tax, currency),
                "gross": amount(gross, currency),
            }
            for currency, number, net, tax, gross in runs.totals(run.pk)
        ],
        "invoices_url": f"{reverse('admin:billing_invoice_changelist')}?run__id__exact={run.pk}",
    }


def _lead(run: InvoiceRun) -> str:
    who = f"Planned by {run.author}" if run.author else "Planned by the clock"
    approved = f", approved by {run.approved_by}" if run.approved_by else ""
    goes_on = " You may leave this page; the run goes on." if run.state in runs.WORKING else ""
    return f"{run.legal_entity.name}. {who}{approved}.{goes_on}"


def _failure(item: RunItem) -> dict[str, Any]:
    """A customer set aside, its reason and the one place that mends it."""
    customer = reverse("admin:billing_customer_change", args=[item.customer_id])
    for words, label, url in (
        ("VAT rate", "Add the rate", reverse("admin:billing_taxrate_changelist")),
        ("no price", "See the plans", reverse("admin:billing_planversion_changelist")),
        ("seller", "Complete the seller", reverse("admin:billing_legalentity_changelist")),
        ("street", "Complete the address", f"{customer}?edit=1#details"),
        ("town", "Complete the address", f"{customer}?edit=1#details"),
    ):
        if words in item.reason:
            return {"name": item.customer.name, "reason": item.reason, "label": label, "url": url}
    return {
        "name": item.customer.name,
        "reason": item.reason,
        "label": "Open the customer",
        "url": customer,
    }


# --- Steps -------------------------------------------------------------------------------------


def _start(run: InvoiceRun, user: Any, _reason: str) -> None:
    runs.start(run.pk, at=timezone.now(), actor_id=user.pk)


def _approve(run: InvoiceRun, user: Any, reason: str) -> None:
    runs.approve(run.pk, by_id=user.pk, at=timezone.now(), reason=reason)


def _issue(run: InvoiceRun, user: Any, _reason: str) -> None:
    runs.issue(run.pk, actor_id=user.pk)


def _stop(run: InvoiceRun, user: Any, reason: str) -> None:
    runs.stop(run.pk, actor_id=user.pk, reason=reason)


def _resume(run: InvoiceRun, user: Any, _reason: str) -> None:
    runs.resume(run.pk, actor_id=user.pk)


def _retry(run: InvoiceRun, user: Any, _reason: str) -> None:
    runs.retry_failed(run.pk, actor_id=user.pk)


def _in(*allowed: str) -> Callable[[InvoiceRun, Any], bool]:
    return lambda run, _user: run.state in allowed


def _may_approve(run: InvoiceRun, user: Any) -> bool:
    return run.state == State.IN_REVIEW and run.author_id != user.pk


def _may_retry(run: InvoiceRun, _user: Any) -> bool:
    if run.state in (State.PLANNED, State.STOPPED):
        return False
    return RunItem.objects.filter(run=run, state=RunItem.State.PARKED).exists()


STEPS: Final[Mapping[str, Step]] = {
    "start": Step(
        label="Start",
        permission="run_invoices",
        question="Start this run?",
        lead="It drafts an invoice for every customer who owes something for the period.",
        effects=(
            ("file", "Drafts are made in the background. You may leave the page."),
            ("lock", "Nothing is numbered, booked or sent before another person approves."),
        ),
        done="The run has started.",
        act=_start,
        allowed=_in(State.PLANNED),
        icon="play",
        needs_reason=False,
        is_main=True,
    ),
    "approve": Step(
        label="Approve…",
        permission="approve",
        question="Approve this run?",
        lead="You say that the drafts are right. Your own runs are approved by somebody else.",
        effects=(
            ("check", "Every draft of the run becomes approved under your name."),
            ("lock", "Issuing is a step of its own; nothing is sent yet."),
        ),
        done="The run is approved.",
        act=_approve,
        allowed=_may_approve,
        icon="check",
        is_main=True,
    ),
    "issue": Step(
        label="Issue…",
        permission="issue_invoices",
        question="Issue these invoices?",
        lead="They get their numbers. This cannot be undone, only credited.",
        effects=(
            ("hash", "Each invoice takes the next number of its series, without a gap."),
            ("book", "Its total is booked as receivable on the day of issue."),
            ("file", "A PDF of each is made in the background."),
            ("lock", "Lines, amounts, address and tax reason are locked for good."),
        ),
        done="The invoices are being issued.",
        act=_issue,
        allowed=_in(State.APPROVED),
        needs_reason=False,
        is_main=True,
    ),
    "stop": Step(
        label="Stop…",
        permission="run_invoices",
        question="Stop this run?",
        lead="It halts after the customers in hand. Nothing is undone, and it can go on later.",
        effects=(("pause", "What is drafted or issued stays as it is."),),
        done="The run has stopped.",
        act=_stop,
        allowed=_in(
            State.DRAFTING, State.IN_REVIEW, State.APPROVED, State.ISSUING, State.DELIVERING
        ),
        icon="pause",
    ),
    "resume": Step(
        label="Resume",
        permission="run_invoices",
        question="Resume this run?",
        lead="It goes on where it was stopped.",
        effects=(("play", "Customers already done are not done again."),),
        done="The run goes on.",
        act=_resume,
        allowed=_in(State.STOPPED),
        icon="play",
        needs_reason=False,
        is_main=True,
    ),
    "retry": Step(
        label="Retry failed",
        permission="run_invoices",
        question="Retry the customers set aside?",
        lead="Only they are taken up again; the others stay as they are.",
        effects=(
            ("play", "Whoever is mended is drafted and reviewed; the rest is set aside again."),
        ),
        done="The customers set aside are taken up again.",
        act=_retry,
        allowed=_may_retry,
        needs_reason=False,
    ),
}


def facts(run: InvoiceRun) -> list[Fact]:
    """What a run's confirmation names: seller, days, totals of each currency."""
    return [
        Fact("Seller", run.legal_entity.name),
        Fact("Period", span_text(run.period.lower, run.period.upper), is_loud=True),
        *(
            Fact(currency, f"{amount(gross, currency)} in {people_count(number)}")
            for currency, number, _net, _tax, gross in runs.totals(run.pk)
        ),
    ]


def people_count(number: int) -> str:
    """`1 invoice`, `23 invoices`."""
    return charts.people_count(number, "invoice", "invoices")


def nudge(run: InvoiceRun) -> None:
    """Tell a worker there is work; the clock finds it anyway when the message is lost."""
    from billing import tasks  # the tasks bring the renderer along; pages do without it

    tasks.advance_run.delay_on_commit(run.pk)  # type: ignore[attr-defined]


class PlanForm(forms.Form):
    """Which period of which seller is billed."""

    legal_entity = forms.ModelChoiceField(LegalEntity.objects.none(), label="Seller")
    month = forms.DateField(
        label="First day of the month to bill",
        widget=DateInput(),
        help_text="Use of this month is billed in arrears, fees of the next one in advance.",
    )
    plan = forms.ModelChoiceField(
        Plan.objects.none(), required=False, label="Only this plan", empty_label="Every plan"
    )
    issue_on = forms.DateField(
        required=False,
        label="Invoice date",
        widget=DateInput(),
        help_text="Empty takes the day on which the invoices are issued.",
    )

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.fields["legal_entity"].queryset = LegalEntity.objects.all()  # type: ignore[attr-defined]
        self.fields["plan"].queryset = Plan.objects.all()  # type: ignore[attr-defined]

    def clean_issue_on(self) -> date | None:
        """No day that has passed: dating back needs a right of its own, and nobody has it yet."""
        day: date | None = self.cleaned_data["issue_on"]
        entity = self.cleaned_data.get("legal_entity")
        if day is not None and entity is not None:
            today = day_in(timezone.now(), entity.time_zone)
            if day < today:
                raise forms.ValidationError(f"Choose {today} or later, or leave it empty.")
        return day


def _month_before(day: date) -> date:
    number = day.year * 12 + day.month - 2
    return date(number // 12, number % 12 + 1, 1)


def _month_after(day: date) -> date:
    return date(day.year + day.month // 12, day.month % 12 + 1, 1)


def plan_view(model_admin: Any) -> Callable[..., HttpResponse]:
    """Make a run, or open the one that exists for the same period."""

    def view(request: HttpRequest) -> HttpResponse:
        if not may(request, "run_invoices"):
            raise PermissionDenied
        first = LegalEntity.objects.first()
        form = PlanForm(
            request.POST or None,
            initial={"month": _month_before(timezone.localdate()), "legal_entity": first},
        )
        if request.method == "POST" and form.is_valid():
            start = form.cleaned_data["month"].replace(day=1)
            plan = form.cleaned_data["plan"]
            run = runs.plan(
                legal_entity_id=form.cleaned_data["legal_entity"].pk,
                period_from=start,
                period_to=_month_after(start),
                author_id=int(request.user.pk or 0),
                plan_id=plan.pk if plan else None,
                issue_on=form.cleaned_data["issue_on"],
            )
            return HttpResponseRedirect(reverse("admin:billing_invoicerun_change", args=[run.pk]))
        shown = {
            **model_admin.admin_site.each_context(request),
            "opts": model_admin.opts,
            "title": "New invoice run",
            "form": form,
        }
        return TemplateResponse(request, "admin/billing/invoicerun/plan.html", shown)

    return view
