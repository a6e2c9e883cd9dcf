#!/usr/bin/env python
"""Command line of Keter Billing: `quickstart`, `serve`, and the commands of Django."""

import os
import sys


def main() -> int:
    """Run the command named on the command line, with the database it needs; its exit code."""
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "config.settings")
    os.environ.setdefault("LOG_FORMAT", "line")  # somebody is looking at this terminal
    from django.core.management import execute_from_command_line

    from config.embedded.borrow import database_for
    from config.embedded.errors import ServiceError

    try:
        with database_for(sys.argv):
            execute_from_command_line(sys.argv)
    except ServiceError as error:
        print(error, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
