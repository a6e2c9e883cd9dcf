"""The Celery application. Rows in PostgreSQL are the queue; a message is only a nudge."""

import os
import signal
import warnings
from typing import Any

import django
from celery import Celery
from celery.signals import worker_init, worker_process_init

from config.embedded.launch import die_with_parent

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "config.settings")

# Messages are JSON and carry ids only, so root is no more dangerous here than in the other parts.
warnings.filterwarnings("ignore", message="You're running the worker with superuser privileges")

app = Celery("keter")
app.config_from_object("django.conf:settings", namespace="CELERY")
app.autodiscover_tasks()


@worker_init.connect
def _warm(**kwargs: Any) -> None:
    """Load the typesetter before the pool forks, so that its processes share it."""
    django.setup()
    from billing.paper import engine

    engine.warm()


@worker_process_init.connect
def _die_with_the_worker(**kwargs: Any) -> None:
    """A pool process without its worker would keep a task nobody can time out."""
    die_with_parent(os.getppid(), signal.SIGKILL)
