"""Where the embedded services keep their files. Pure: computes paths, touches nothing."""

import hashlib
import os
from dataclasses import dataclass
from pathlib import Path

# The kernel allows 107 bytes for the path of a Unix socket, and PostgreSQL adds ".lock" to it.
SOCKET_DIRECTORY_BYTES_MAX = 80


@dataclass(frozen=True, slots=True)
class StatePaths:
    """The files of one installation, all under its state directory (sockets may be elsewhere)."""

    state: Path

    @classmethod
    def of(cls, state: str | os.PathLike[str]) -> "StatePaths":
        """Paths under `state`, made absolute."""
        return cls(Path(os.path.abspath(state)))

    @property
    def run(self) -> Path:
        """Directory of the sockets: under the state directory when its path is short enough."""
        near = self.state / "run"
        if len(os.fsencode(near)) <= SOCKET_DIRECTORY_BYTES_MAX:
            return near
        digest = hashlib.sha256(os.fsencode(self.state)).hexdigest()[:12]
        return Path("/tmp") / f"keter-{os.getuid()}-{digest}"  # noqa: S108  # nosec B108 (made 0700)

    @property
    def cluster(self) -> Path:
        """PostgreSQL's data directory."""
        return self.state / "postgres"

    @property
    def valkey(self) -> Path:
        """Valkey's data directory."""
        return self.state / "valkey"

    @property
    def valkey_socket(self) -> Path:
        """Valkey's socket."""
        return self.run / "valkey.sock"

    @property
    def logs(self) -> Path:
        """Directory of the services' own logs."""
        return self.state / "logs"

    @property
    def secret_key(self) -> Path:
        """File that holds Django's SECRET_KEY when the environment gives none."""
        return self.state / "secrets" / "secret_key"

    def passfile(self, role: str) -> Path:
        """libpq password file of one database role."""
        return self.state / "secrets" / f"{role}.pgpass"
