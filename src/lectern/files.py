"""Files that are written wholly or not at all, and names for them.

`write_safely`, `file_name`.
"""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

__all__ = ["file_name", "write_safely"]


def file_name(student: str) -> str:
    """Return a file's name for a student, unlike that of any other.

    Examples
    --------
    >>> file_name("ada"), file_name("../ada")
    ('ada', '_ada-60088279')
    """
    kept = "".join(c if c.isascii() and (c.isalnum() or c in "-_.") else "_" for c in student)
    kept = kept[:80].lstrip(".")
    if kept and kept == student:
        return kept
    mark = hashlib.sha256(student.encode("utf-8", "surrogateescape")).hexdigest()[:8]
    return f"{kept}-{mark}"


def write_safely(path: Path, text: str) -> None:
    """Write a file wholly or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = path.with_name(f".{path.name}.{os.getpid()}")
    with open(draft, "w", encoding="utf-8") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    draft.replace(path)
