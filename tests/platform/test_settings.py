"""Settings: safe without a single variable, and read without touching anything."""

import json
import os
import subprocess
import sys

import pytest

from tests.platform.sites import BASE_DIR, manage, plain_environment

SHOW = """
import json, sys
import django
def refuse(event, arguments):
    if event in ("socket.connect", "subprocess.Popen", "os.system", "os.mkdir"):
        raise SystemExit(f"importing settings did {event} {arguments}")
sys.addaudithook(refuse)
from django.conf import settings
names = sys.argv[1:]
print(json.dumps({name: getattr(settings, name) for name in names}, default=str))
"""


def shown(state, *names: str, **environment: str) -> dict[str, object]:
    """Values of settings as a fresh process sees them; it may start and make nothing."""
    done = subprocess.run(
        [sys.executable, "-c", SHOW, *names],
        cwd=BASE_DIR,
        env=plain_environment(state, DJANGO_SETTINGS_MODULE="config.settings", **environment),
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    if done.returncode:
        raise AssertionError(done.stderr)
    return json.loads(done.stdout)


def test_importing_settings_starts_nothing_and_makes_nothing(tmp_path):
    state = tmp_path / "state"
    shown(state, "DATABASES", "CELERY_BROKER_URL", "STORAGES")
    assert not state.exists()


def test_the_defaults_are_the_safe_ones(tmp_path):
    assert shown(
        tmp_path,
        "DEBUG",
        "SECURE_SSL_REDIRECT",
        "SECURE_HSTS_SECONDS",
        "SESSION_COOKIE_SECURE",
        "SESSION_COOKIE_NAME",
        "SESSION_COOKIE_HTTPONLY",
        "CSRF_COOKIE_SECURE",
        "CSRF_COOKIE_NAME",
        "X_FRAME_OPTIONS",
        "ANONYMOUS_USER_NAME",
        "CELERY_ACCEPT_CONTENT",
        "CELERY_TASK_ACKS_LATE",
        "TIME_ZONE",
        "USE_TZ",
    ) == {
        "DEBUG": False,
        "SECURE_SSL_REDIRECT": True,
        "SECURE_HSTS_SECONDS": 31_536_000,
        "SESSION_COOKIE_SECURE": True,
        "SESSION_COOKIE_NAME": "__Host-sid",
        "SESSION_COOKIE_HTTPONLY": True,
        "CSRF_COOKIE_SECURE": True,
        "CSRF_COOKIE_NAME": "__Host-csrf",
        "X_FRAME_OPTIONS": "DENY",
        "ANONYMOUS_USER_NAME": None,
        "CELERY_ACCEPT_CONTENT": ["json"],
        "CELERY_TASK_ACKS_LATE": True,
        "TIME_ZONE": "UTC",
        "USE_TZ": True,
    }


def test_argon2_comes_first(tmp_path):
    assert shown(tmp_path, "PASSWORD_HASHERS")["PASSWORD_HASHERS"][0].endswith(
        "Argon2PasswordHasher"
    )


def test_the_owner_is_no_alias_of_the_site(tmp_path):
    assert list(shown(tmp_path, "DATABASES")["DATABASES"]) == ["default"]


def test_the_application_database_has_limits(tmp_path):
    options = shown(tmp_path, "DATABASES", DATABASE_LOCK_TIMEOUT="7s")["DATABASES"]["default"][
        "OPTIONS"
    ]["options"]
    assert "lock_timeout=7s" in options
    assert "statement_timeout=" in options
    assert "idle_in_transaction_session_timeout=" in options


def test_no_secret_key_makes_a_new_one_for_each_process(tmp_path):
    keys = [shown(tmp_path, "SECRET_KEY")["SECRET_KEY"] for _ in range(2)]
    assert keys[0] != keys[1]
    assert all(len(str(key)) >= 50 for key in keys)


def test_the_installation_keeps_its_secret_key(tmp_path):
    from config.embedded.paths import StatePaths
    from config.embedded.secret_key import ensure_secret_key

    paths = StatePaths.of(tmp_path / "state")
    ensure_secret_key(paths)
    ensure_secret_key(paths)
    assert paths.secret_key.stat().st_mode & 0o077 == 0
    assert shown(paths.state, "SECRET_KEY")["SECRET_KEY"] == paths.secret_key.read_text().strip()


def test_a_short_secret_key_is_refused(tmp_path):
    with pytest.raises(AssertionError, match="50 characters"):
        shown(tmp_path, "SECRET_KEY", SECRET_KEY="secret")


def test_another_kind_of_database_is_refused(tmp_path):
    with pytest.raises(AssertionError, match="PostgreSQL"):
        shown(tmp_path, "DATABASES", DATABASE_URL="sqlite:///books.db")


def test_documents_lie_in_the_state_directory_outside_any_web_root(tmp_path):
    values = shown(tmp_path, "STORAGES", "MEDIA_URL")
    assert values["STORAGES"]["documents"]["OPTIONS"]["location"] == str(tmp_path / "documents")
    assert values["STORAGES"]["documents"]["OPTIONS"]["base_url"] is None


def test_the_deployment_check_has_nothing_to_say(tmp_path):
    done = manage(
        tmp_path,
        "check",
        "--deploy",
        "--fail-level=WARNING",
        SECRET_KEY="k9!" * 20 + "abcdefgh",
        ALLOWED_HOSTS="billing.example.org",
        DATABASE_URL="postgres://keter_app:x@db/keter",
        DATABASE_OWNER_URL="postgres://keter_owner:y@db/keter",
    )
    assert done.returncode == 0, done.stderr


def test_a_run_of_the_rules_starts_no_service(tmp_path):
    environment = plain_environment(tmp_path) | {"TMPDIR": str(tmp_path)}
    for name in ("KETER_TEST_RUN", "KETER_TEST_PID", "PYTEST_XDIST_WORKER", "PYTEST_ADDOPTS"):
        environment.pop(name, None)
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "tests/test_architecture.py", "-p", "no:randomly"],
        cwd=BASE_DIR,
        env=environment | {"PATH": os.environ["PATH"]},
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    assert "passed" in done.stdout
    assert not list(tmp_path.glob("keter-test-*"))
