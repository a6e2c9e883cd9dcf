"""Doors, not rooms: a task calls one function and may run twice.

Rows in the database are the queue; a message lost by the broker costs one beat, never an invoice.
"""

from datetime import timedelta
from typing import Final

from celery import shared_task
from django.utils import timezone

from accounts import roles
from billing import credits, documents, runs
from billing.models import Heartbeat

TURN: Final = timedelta(seconds=10)  # then a task hands over, so that a stop is quick


@shared_task(name="billing.advance_run", ignore_result=True)
def advance_run(run_id: int) -> None:
    """Work on one run for a while; chunks are leased, so any number of workers may share it."""
    began = timezone.now()
    while runs.advance(run_id, at=timezone.now()):
        if timezone.now() - began > TURN:
            advance_run.delay(run_id)
            return
    render_waiting.delay()


@shared_task(name="billing.run_due", ignore_result=True)
def run_due() -> None:
    """Nudge every run that has work to do: what the broker lost is found again here."""
    for run_id in runs.active_ids():
        advance_run.delay(run_id)


@shared_task(name="billing.render_waiting", ignore_result=True)
def render_waiting(limit: int = 50) -> None:
    """Draw waiting documents under a lease for a while; any number may run at once."""
    began = timezone.now()
    while documents.render_waiting(limit=limit, at=timezone.now()):
        if timezone.now() - began > TURN:
            render_waiting.delay()
            return


@shared_task(name="billing.render_missing", ignore_result=True)
def render_missing() -> None:
    """Sweep for documents nobody was told about."""
    render_waiting.delay()


@shared_task(name="billing.sweep_credits", ignore_result=True)
def sweep_credits() -> None:
    """Grant the allowances that are due; expire grants and holds whose time is over."""
    credits.renew_due(at=timezone.now())
    credits.sweep(at=timezone.now())


@shared_task(name="billing.refresh_roles", ignore_result=True)
def refresh_roles() -> None:
    """Write the permissions of roles that began or ended anew; their dates hold without it."""
    roles.refresh_permissions(at=timezone.now())


@shared_task(name="billing.heartbeat", ignore_result=True)
def heartbeat() -> None:
    """Show that the clock sent and a worker took a message."""
    now = timezone.now()
    for name in ("clock", "worker"):
        Heartbeat.objects.update_or_create(name=name, defaults={"seen_at": now})
