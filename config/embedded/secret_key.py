"""Django's SECRET_KEY of an installation that was given none: made once, kept private."""

import secrets

from config.embedded.files import make_private, write_secret
from config.embedded.paths import StatePaths


def ensure_secret_key(paths: StatePaths) -> None:
    """Write the key file unless it exists. Web processes started afterwards share it."""
    make_private(paths.state)
    if not paths.secret_key.exists():
        write_secret(paths.secret_key, secrets.token_urlsafe(64) + "\n")
