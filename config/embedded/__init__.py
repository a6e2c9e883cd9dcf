"""The bundled PostgreSQL and Valkey, and the supervisor behind `manage.py serve`."""
