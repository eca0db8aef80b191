"""What a learner's own machine does: check, remember, and tell."""


def check_here(names: object) -> None:
    """Check exercises of this notebook."""
    raise NotImplementedError
