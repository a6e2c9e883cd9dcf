"""What the embedded services say when they cannot go on."""


class ServiceError(Exception):
    """A sentence for the operator: what is wrong and what to do. Shown without a traceback."""
