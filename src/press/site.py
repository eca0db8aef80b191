"""What the site needs beyond its theme: nothing from another host, and buttons that open notebooks."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from sphinx.application import Sphinx

__all__ = ["setup"]


def setup(app: Sphinx) -> dict[str, Any]:
    """Connect the site's hooks to Sphinx."""
    return {"version": "1", "parallel_read_safe": True, "parallel_write_safe": True}
