"""Commands of the platform: serve, db_roles, migrate."""
