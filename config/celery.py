"""The Celery application. Rows in PostgreSQL are the queue; a message is only a nudge."""

import os
import warnings

from celery import Celery

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "config.settings")

# Messages are JSON and carry ids only, so root is no more dangerous here than in the other parts.
warnings.filterwarnings("ignore", message="You're running the worker with superuser privileges")

app = Celery("keter")
app.config_from_object("django.conf:settings", namespace="CELERY")
app.autodiscover_tasks()
