"""Fold the code that checks claims, so that a page shows the experiment and not its bookkeeping.

A top-level ``claim(...)`` or ``glue(...)`` of a cell, or a row of them with commas in between, is
part of what the build runs, and of the notebook that a reader downloads; on the page it stands
folded, at its place in the cell. The tick that the claim leaves is always visible.

Public names: `split_cell`, `fold_claims`.
"""

from __future__ import annotations

import ast
from typing import TYPE_CHECKING

from docutils import nodes

if TYPE_CHECKING:
    from sphinx.application import Sphinx

__all__ = ["fold_claims", "split_cell"]

_CHECKS = ("claim", "glue")
_OPEN = '<details class="gb-check"><summary>How this is checked</summary>'
_CLOSE = "</details>"


def split_cell(code: str) -> list[tuple[bool, str]]:
    """Return the code of a cell in pieces, each with whether it is made of claims and glue only.

    A comment directly above a claim goes with it. Code that is no plain Python (a line that begins
    with ``%`` or ends with ``?``) is one piece.
    """
    try:
        body = ast.parse(code).body
    except SyntaxError:
        return [(False, code)]
    lines = code.splitlines()
    checks = [False] * len(lines)
    owner = [False] * len(lines)  # lines with a statement on them
    for statement in body:
        rows = range(statement.lineno - 1, statement.end_lineno or statement.lineno)
        check = _is_check(statement)
        for row in rows:
            checks[row], owner[row] = check, True
    for row in reversed(range(len(lines) - 1)):  # comments and blank lines go with what follows
        if not owner[row]:
            checks[row] = checks[row + 1]
    pieces: list[tuple[bool, list[str]]] = []
    for line, check in zip(lines, checks, strict=True):
        if not pieces or pieces[-1][0] != check:
            pieces.append((check, []))
        pieces[-1][1].append(line)
    return [(check, "\n".join(part).strip("\n")) for check, part in pieces]


def _is_check(statement: ast.stmt) -> bool:
    """Whether it is a call of a check, or several with commas between them."""
    if not isinstance(statement, ast.Expr):
        return False
    value = statement.value
    calls = value.elts if isinstance(value, ast.Tuple) and value.elts else [value]
    return all(
        isinstance(call, ast.Call) and isinstance(call.func, ast.Name) and call.func.id in _CHECKS
        for call in calls
    )


def fold_claims(app: Sphinx, doctree: nodes.document) -> None:
    """Fold the claims of every cell of a page whose code is shown."""
    for cell in list(doctree.findall(nodes.container)):
        if "cell" not in cell["classes"] or cell.get("hide_mode"):
            continue
        for area in [c for c in cell.children if "cell_input" in c.get("classes", [])]:
            for block in list(area.findall(nodes.literal_block)):
                pieces = split_cell(block.astext())
                if any(check for check, _ in pieces):
                    block.replace_self([n for piece in pieces for n in _shown(block, *piece)])


def _shown(block: nodes.literal_block, check: bool, code: str) -> list[nodes.Node]:
    part = nodes.literal_block(code, code, **block.non_default_attributes())
    part.source, part.line = block.source, block.line
    if not check:
        return [part]
    return [nodes.raw("", _OPEN, format="html"), part, nodes.raw("", _CLOSE, format="html")]
