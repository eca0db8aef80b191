"""Graded exercises: `check` in a learner's notebook; the command `lectern` for everything else."""

from __future__ import annotations

__all__ = ["check"]


def check(*names: str) -> None:
    """Check exercises of this notebook, and say what is right and what is not yet.

    Parameters
    ----------
    *names : str
        Of exercises, as they stand in the notebook.

    Raises
    ------
    ValueError
        If there is no such exercise.
    """
    from lectern.learner import check_here  # what it needs is heavy, and the sandbox has none of it

    check_here(names)
