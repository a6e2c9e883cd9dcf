"""Steps that change a row's state: asked for on a page of their own, taken by a service.

A step says what it does, what becomes locked, and asks for a reason where one is kept. The
service decides; what it refuses is shown in its own words. Permission is asked when the button is
drawn, when the page is shown and when the form arrives.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Final

from django import forms
from django.contrib import messages
from django.core.exceptions import PermissionDenied
from django.http import Http404, HttpRequest, HttpResponse, HttpResponseRedirect
from django.template.response import TemplateResponse
from django.urls import URLPattern, path, reverse

from accounts import access
from billing.admin.base import Tool
from billing.errors import BillingError

TEMPLATE: Final = "admin/step.html"


@dataclass(frozen=True, slots=True)
class Fact:
    """One line of what the step is about."""

    term: str
    text: str
    is_loud: bool = False


@dataclass(frozen=True, slots=True)
class Step:
    """One thing a person may do to a row."""

    label: str  # ends in "…" where a question follows
    permission: str
    question: str
    lead: str
    effects: tuple[tuple[str, str], ...]  # (icon, sentence)
    done: str
    act: Callable[[Any, Any, str], object]  # row, user, reason
    allowed: Callable[[Any, Any], bool]  # row, user
    icon: str = ""
    needs_reason: bool = True
    is_main: bool = False


class ReasonForm(forms.Form):
    """Why a step is taken; kept in the audit trail."""

    reason = forms.CharField(
        max_length=500,
        widget=forms.Textarea(attrs={"rows": 3}),
        help_text="Required. It is kept in the audit trail with your name.",
    )


def tools(request: HttpRequest, row: Any, steps: Mapping[str, Step], name: str) -> list[Tool]:
    """The buttons of the steps this reader may take now, the main one last."""
    shown = [
        Tool(step.label, reverse(f"admin:{name}_step", args=[row.pk, key]), step.icon, step.is_main)
        for key, step in steps.items()
        if step.allowed(row, request.user)
        and access.may(request.user, step.permission, _customer_id(row))
    ]
    return sorted(shown, key=lambda tool: tool.is_main)


def _customer_id(row: Any) -> int | None:
    return getattr(row, "customer_id", None)


def url(
    model_admin: Any,
    steps: Mapping[str, Step],
    *,
    facts: Callable[[Any], Iterable[Fact]],
    subject: Callable[[Any], str],
    after: Callable[[Any], None] | None = None,
) -> URLPattern:
    """The address of a model's steps: `<pk>/do/<step>/`.

    facts: what the page names before it asks. subject: what the button repeats after the verb.
    after: called when a step was taken.
    """
    opts = model_admin.opts
    name = f"{opts.app_label}_{opts.model_name}"

    def view(request: HttpRequest, pk: int, step: str) -> HttpResponse:
        row = model_admin.get_object(request, str(pk))
        wanted = steps.get(step)
        if wanted is None:
            raise Http404
        if not access.may(request.user, wanted.permission, _customer_id(row)):
            raise PermissionDenied
        back = reverse(f"admin:{name}_change", args=[row.pk])
        form = ReasonForm(request.POST or None) if wanted.needs_reason else None
        if request.method == "POST" and (form is None or form.is_valid()):
            reason = form.cleaned_data["reason"] if form else ""
            if _take(request, wanted, row, reason) and after is not None:
                after(row)
            return HttpResponseRedirect(back)
        shown = {
            **model_admin.admin_site.each_context(request),
            "opts": opts,
            "title": wanted.question,
            "row": row,
            "step": wanted,
            "button": f"{wanted.label.rstrip('…')} {subject(row)}",
            "facts": list(facts(row)),
            "form": form,
            "back": back,
        }
        return TemplateResponse(request, TEMPLATE, shown)

    return path(
        "<int:pk>/do/<slug:step>/", model_admin.admin_site.admin_view(view), name=f"{name}_step"
    )


def _take(request: HttpRequest, step: Step, row: Any, reason: str) -> bool:
    try:
        step.act(row, request.user, reason)
    except BillingError as refusal:
        text = str(refusal)
        messages.error(request, text[:1].upper() + text[1:])
        return False
    messages.success(request, step.done)
    return True
