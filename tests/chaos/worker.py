"""A worker process to be killed: advances one run until nothing is left to do, over and over.

`python -m tests.chaos.worker RUN CHUNK` prints "ready" when it starts to work. A database that
goes away is waited for, as the next message would.
"""

import sys
import time


def main(run_id: int, chunk: int) -> None:
    """Work on the run until no customer of it waits, then end."""
    import django

    django.setup()
    from django.db import DatabaseError, InterfaceError, connection
    from django.utils import timezone

    from billing import runs
    from billing.models import RunItem

    print("ready", flush=True)
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        try:
            if runs.advance(run_id, at=timezone.now(), chunk=chunk):
                continue
            step = {"drafting": "waiting", "issuing": "drafted"}.get(runs.progress(run_id).state)
            if step is None or not RunItem.objects.filter(run=run_id, state=step).exists():
                return
        except (DatabaseError, InterfaceError):
            connection.close()
        time.sleep(0.05)


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]))
