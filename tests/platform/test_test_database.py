"""The test database itself: who we are in it, and what committing tests may rely on."""

import pytest
from django.db import connection


@pytest.mark.django_db
def test_tests_run_as_the_application_role():
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT current_user, rolsuper OR rolbypassrls OR rolcreatedb OR rolcreaterole"
            " FROM pg_roles WHERE rolname = current_user"
        )
        assert cursor.fetchone() == ("keter_app", False)


@pytest.mark.django_db
def test_the_application_role_owns_nothing():
    with connection.cursor() as cursor:
        cursor.execute("SELECT count(*) FROM pg_class WHERE relowner = current_user::regrole")
        assert cursor.fetchone() == (0,)


def test_a_fresh_database_is_empty_and_migrated(fresh_database):
    from accounts.models import User

    assert connection.settings_dict["NAME"] == fresh_database
    assert not User.objects.exists()


@pytest.mark.owner
def test_the_owner_is_asked_for_by_name(owner_connection):
    assert owner_connection.execute("SELECT current_user").fetchone() == ("keter_owner",)
