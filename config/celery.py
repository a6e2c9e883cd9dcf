"""The Celery application. Rows in PostgreSQL are the queue; a message is only a nudge."""

import os

from celery import Celery

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "config.settings")

app = Celery("keter")
app.config_from_object("django.conf:settings", namespace="CELERY")
app.autodiscover_tasks()
