"""The few cells that one claim needs, and a way to run them against changed source code.

A test that breaks the library on purpose wants to see one claim fail. Executing the whole chapter
for that would cost minutes; `cells_for` finds the cells whose result the claim's cell can depend
on, and `run_cells` runs them in a process of their own.

The slice is made from the text alone, by names. Where the text does not tell, it takes too much
rather than too little: an object handed to a function that is not known to leave its arguments
alone counts as changed, and so does everything that such an object was made from (an optimizer
holds its parameters). What it cannot see is the position of a random generator: cells that are
left out draw no numbers. A claim that holds for any seed does not mind, and a test should run the
slice against the unchanged source first.

Public names: `cells_for`, `claims_in`, `run_cells`, `Outcome`.
"""

from __future__ import annotations

import ast
import json
import os
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from nbformat import NotebookNode

RUNNER = Path(__file__).with_name("cell_runner.py")


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


# Calls that leave their arguments as they are.
_PURE_FUNCTIONS = _words(
    """
    abs all any bool claim dict display enumerate filter float format getattr glue hasattr hash
    help id int isinstance issubclass len list map max min pow print range repr reversed round
    set show_animation show_images slice sorted str sum tuple type zip
    """
)
# Methods that change nothing that a later cell could compute with.
_PURE_METHODS = _words(
    """
    abs all allclose any argmax argmin as_row astype clone copy count cos cpu cumsum dim double
    detach diff dot eq equal exp expand flatten float format get index item items join keys log
    log_softmax long lower max mean median min norm numel nonzero numpy permute pow predict prod
    ravel repeat replace reshape round sigmoid sin size softmax sort split sqrt squeeze std
    strip sum tanh to tolist topk transpose unbind unique unsqueeze upper values var view
    """
)
# Methods that draw: they change the picture they are called on and nothing that is drawn.
_DRAWING = _words(
    """
    annotate axhline axis axvline bar barh colorbar contour contourf errorbar fill_between grid
    hist hlines imshow legend loglog plot plot_loss plot_lr plot_metrics quiver savefig scatter
    semilogx semilogy set set_aspect set_title set_xlabel set_xlim set_ylabel set_ylim
    set_xticks set_yticks suptitle text tick_params tight_layout title vlines xlabel ylabel
    """
)
# What sets the state of the whole process: always kept.
_GLOBAL_STATE = re.compile(
    r"\b(\w*seed\w*|use_style|set_default_dtype|set_default_device|set_printoptions|"
    r"set_num_threads|use_deterministic_algorithms|rcParams|filterwarnings|simplefilter)\b"
)


@dataclass
class _Cell:
    """What one cell does with names."""

    binds: set[str] = field(default_factory=set)
    uses: set[str] = field(default_factory=set)
    touches: set[str] = field(default_factory=set)  # may change the object, and what it holds
    draws_on: set[str] = field(default_factory=set)  # changes the object alone
    links: list[set[str]] = field(default_factory=list)  # names that may hold one another
    modules: set[str] = field(default_factory=set)
    functions: dict[str, set[str]] = field(default_factory=dict)  # what calling them may change
    always: bool = False


def cells_for(notebook: NotebookNode, cell_index: int) -> list[int]:
    """Return the cells that have to run for one cell to give its result.

    Parameters
    ----------
    notebook
        A chapter.
    cell_index
        The position of a code cell in ``notebook.cells``.

    Returns
    -------
    list of int
        Positions in ``notebook.cells``, ascending; the last one is ``cell_index``.

    Raises
    ------
    ValueError
        When there is no code cell at that position.
    """
    if not 0 <= cell_index < len(notebook.cells) or (
        notebook.cells[cell_index].cell_type != "code"
    ):
        raise ValueError(f"cell_index is {cell_index}, which is not the position of a code cell.")
    before = [
        index
        for index in range(cell_index + 1)
        if notebook.cells[index].cell_type == "code"
        and "skip-execution" not in notebook.cells[index].metadata.get("tags", [])
    ]
    modules: set[str] = set()
    effects: dict[str, set[str]] = {}
    cells = {}
    for index in before:
        cells[index] = _analyse(notebook.cells[index].source, modules, effects)
        modules |= cells[index].modules
        effects |= cells[index].functions

    kept = {cell_index}
    needed = {index: set(cells[index].uses) for index in kept}
    # A cell is kept when it binds or changes what a kept cell after it uses. What it uses itself
    # is needed then too, so this goes round until nothing is added.
    holds = _held_together(cells.values(), modules | set(effects))
    while True:
        added = set()
        for index in before:
            if index in kept:
                continue
            cell = cells[index]
            wanted = set().union(*(needed[later] for later in kept if later > index), set())
            changed = set().union(*(holds.get(name, {name}) for name in cell.touches), set())
            if cell.always or (cell.binds | cell.draws_on | changed) & wanted:
                added.add(index)
        if not added:
            return sorted(kept)
        kept |= added
        needed |= {index: set(cells[index].uses) for index in added}


def _held_together(cells: Iterable[_Cell], apart: set[str]) -> dict[str, set[str]]:
    """Return for each name the names whose objects may be reached from its own, or the reverse."""
    groups: dict[str, set[str]] = {}
    for cell in cells:
        for link in cell.links:
            names = link - apart
            merged = names.union(*(groups.get(name, set()) for name in names), set())
            for name in merged:
                groups[name] = merged
    return groups


def _analyse(source: str, modules: set[str], effects: Mapping[str, set[str]]) -> _Cell:
    from IPython.core.inputtransformer2 import TransformerManager

    cell = _Cell(always=bool(_GLOBAL_STATE.search(source)))
    try:
        tree = ast.parse(TransformerManager().transform_cell(source))
    except SyntaxError:
        # A cell that shows a syntax error: it binds nothing, for it does not run.
        return cell
    reader = _Reader(cell, modules, effects)
    reader.visit(tree)
    if any(isinstance(node, ast.Import | ast.ImportFrom) for node in tree.body):
        cell.always = True
    # A name that the cell itself binds before it reads it does not come from outside, but one
    # that a `for` or an `if` may leave unbound does: only plain statements at the top count.
    bound: set[str] = set()
    outside: set[str] = set()
    for statement in tree.body:
        outside |= _loads(statement) - bound
        if isinstance(statement, ast.AugAssign):
            outside |= {n.id for n in ast.walk(statement.target) if isinstance(n, ast.Name)} - bound
        bound |= _bound_by(statement)
    cell.uses -= _loads(tree) - outside
    return cell


def _loads(tree: ast.AST) -> set[str]:
    """Return the names that are read anywhere in a syntax tree."""
    return {
        node.id
        for node in ast.walk(tree)
        if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Load)
    }


def _bound_by(statement: ast.stmt) -> set[str]:
    if isinstance(statement, ast.FunctionDef | ast.ClassDef):
        return {statement.name}
    targets = statement.targets if isinstance(statement, ast.Assign) else []
    if isinstance(statement, ast.AnnAssign) and statement.value is not None:
        targets = [statement.target]
    return {
        node.id
        for target in targets
        for node in ast.walk(target)
        if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store)
    }


def _base(node: ast.AST) -> str | None:
    """Return the name that an expression such as ``a.b[c].d()`` starts from."""
    while True:
        match node:
            case ast.Name():
                return node.id
            case ast.Attribute() | ast.Subscript() | ast.Starred():
                node = node.value
            case ast.Call():
                node = node.func
            case _:
                return None


class _Reader(ast.NodeVisitor):
    """Collects what a cell does with names."""

    def __init__(self, cell: _Cell, modules: set[str], effects: Mapping[str, set[str]]) -> None:
        self.cell, self.modules, self.effects = cell, modules, effects

    def visit_Name(self, node: ast.Name) -> None:
        if isinstance(node.ctx, ast.Load):
            self.cell.uses.add(node.id)
            self.cell.touches |= self.effects.get(node.id, set())
        else:
            self.cell.binds.add(node.id)

    def visit_Import(self, node: ast.Import) -> None:
        names = {alias.asname or alias.name.partition(".")[0] for alias in node.names}
        self.cell.binds |= names
        self.cell.modules |= names

    def visit_ImportFrom(self, node: ast.ImportFrom) -> None:
        names = {alias.asname or alias.name for alias in node.names}
        self.cell.binds |= names
        # Classes and functions: calling them does not change them, like a module's.
        self.cell.modules |= names

    def _definition(self, node: ast.FunctionDef | ast.ClassDef) -> None:
        inner = _Cell()
        reader = _Reader(inner, self.modules | self.cell.modules, self.effects)
        for child in ast.iter_child_nodes(node):
            reader.visit(child)
        arguments = {a.arg for a in ast.walk(node) if isinstance(a, ast.arg)}
        declared = {name for n in ast.walk(node) if isinstance(n, ast.Global) for name in n.names}
        local = (inner.binds | arguments) - declared
        self.cell.binds.add(node.name)
        self.cell.uses |= inner.uses - local
        changed = (inner.touches | inner.draws_on | declared) - local
        self.cell.functions[node.name] = changed

    visit_FunctionDef = _definition
    visit_AsyncFunctionDef = _definition  # type: ignore[assignment]
    visit_ClassDef = _definition

    def _assignment(self, node: ast.Assign | ast.AnnAssign | ast.AugAssign) -> None:
        targets = node.targets if isinstance(node, ast.Assign) else [node.target]
        names = _loads(node.value) if node.value is not None else set()
        for target in targets:
            if not isinstance(target, ast.Name | ast.Tuple | ast.List | ast.Starred):
                base = _base(target)
                if base:
                    self.cell.touches.add(base)
                    names.add(base)
            names |= {n.id for n in ast.walk(target) if isinstance(n, ast.Name)}
        if isinstance(node, ast.AugAssign):
            # `x += 1` changes a tensor in place, and then everything that shares it.
            base = _base(node.target)
            self.cell.touches |= {base} if base else set()
            self.cell.uses |= {base} if base else set()
        self.cell.links.append(names - self.modules - self.cell.modules)
        self.generic_visit(node)

    visit_Assign = _assignment
    visit_AnnAssign = _assignment
    visit_AugAssign = _assignment

    def visit_For(self, node: ast.For) -> None:
        names = _loads(node.iter) | {n.id for n in ast.walk(node.target) if isinstance(n, ast.Name)}
        self.cell.links.append(names - self.modules - self.cell.modules)
        self.generic_visit(node)

    def visit_Delete(self, node: ast.Delete) -> None:
        self.cell.touches |= {base for t in node.targets if (base := _base(t))}
        self.generic_visit(node)

    def visit_Call(self, node: ast.Call) -> None:
        self.generic_visit(node)
        function = node.func
        base = _base(function)
        if (
            isinstance(function, ast.Attribute)
            and function.attr.startswith("run_")
            and (base == "get_ipython")
        ):
            self._magic(node)
            return
        arguments = [*node.args, *(keyword.value for keyword in node.keywords)]
        known = self.modules | self.cell.modules
        if isinstance(function, ast.Name):
            if function.id in _PURE_FUNCTIONS:
                return
            if function.id not in known and function.id not in self.effects:
                self.cell.touches.add(function.id)
        elif isinstance(function, ast.Attribute):
            if function.attr in _DRAWING:
                if base and base not in known:
                    self.cell.draws_on.add(base)
                return
            if function.attr in _PURE_METHODS and not node.keywords:
                return
            if base in known:
                in_place = function.attr.endswith("_") or any(k.arg == "out" for k in node.keywords)
                first_is_lower = function.attr[:1].islower()
                if first_is_lower and not in_place and base in {"torch", "np", "F", "plt", "math"}:
                    return
            elif base:
                self.cell.touches.add(base)
        for argument in arguments:
            self.cell.touches |= self._objects(argument)

    def _objects(self, argument: ast.expr) -> set[str]:
        """Return the names whose objects an argument hands over."""
        return _loads(argument) - self.modules - self.cell.modules - set(self.effects)

    def _magic(self, node: ast.Call) -> None:
        for argument in node.args[1:]:
            if isinstance(argument, ast.Constant) and isinstance(argument.value, str):
                names = set(re.findall(r"\b[A-Za-z_]\w*\b", argument.value))
                self.cell.uses |= names
                self.cell.touches |= names - self.modules - self.cell.modules
                self.cell.binds |= set(re.findall(r"\b([A-Za-z_]\w*)\s*=[^=]", argument.value))


# -- claims --------------------------------------------------------------------------------------


def claims_in(notebook: NotebookNode) -> dict[str, int]:
    """Return the cell of each claim, by the claim's id, or by its statement where it has none.

    Only a literal id or statement can be read; a claim made in a loop with another text each time
    is not among them.
    """
    found: dict[str, int] = {}
    for index, cell in enumerate(notebook.cells):
        if cell.cell_type != "code" or "claim(" not in cell.source:
            continue
        try:
            tree = ast.parse(cell.source)
        except SyntaxError:
            continue
        for node in ast.walk(tree):
            if isinstance(node, ast.Call) and _base(node.func) == "claim":
                named = [k.value for k in node.keywords if k.arg == "id"] + node.args[:1]
                for value in named[:1]:
                    if isinstance(value, ast.Constant) and isinstance(value.value, str):
                        found[value.value] = index
    return found


@dataclass(frozen=True)
class Outcome:
    """How a run of some cells ended.

    Parameters
    ----------
    passed
        Whether every cell ran.
    cell
        The position of the cell that failed, or None.
    error, message, traceback
        The name of the exception, what it says, and where it came from; empty when all ran.
    seconds
        How long it took, the start of Python included.
    """

    passed: bool
    cell: int | None
    error: str
    message: str
    traceback: str
    seconds: float


def run_cells(
    notebook: NotebookNode,
    cells: Iterable[int],
    source: Path,
    *,
    environment: Mapping[str, str] | None = None,
    timeout: float = 300,
) -> Outcome:
    """Run some cells of a chapter in a fresh process and say which one fails, if any.

    Parameters
    ----------
    notebook
        A chapter.
    cells
        Positions in ``notebook.cells``, in the order in which they run.
    source
        The folder of the packages that the cells import, for example a changed copy of ``src``.
    environment
        Variables added to those of this process, for example ``GLASSBOX_PROFILE``.
    timeout
        Seconds after which the run counts as failed.

    Returns
    -------
    Outcome
        A claim that does not hold is the error ``ClaimError``.
    """
    chosen = [
        {
            "index": index,
            "source": notebook.cells[index].source,
            "may_fail": "raises-exception" in notebook.cells[index].metadata.get("tags", []),
        }
        for index in cells
    ]
    variables = {
        **os.environ,
        "MPLBACKEND": "agg",
        "PYTHONHASHSEED": "0",
        "PYTHONDONTWRITEBYTECODE": "1",
        **(environment or {}),
    }
    path = [str(source.absolute()), *filter(None, [os.environ.get("PYTHONPATH")])]
    variables["PYTHONPATH"] = os.pathsep.join(path)
    start = time.perf_counter()
    with tempfile.TemporaryDirectory(prefix="glassbox-") as scratch:
        variables["IPYTHONDIR"] = str(Path(scratch, "ipython"))
        answer = Path(scratch, "answer.json")
        Path(scratch, "cells.json").write_text(json.dumps(chosen), encoding="utf-8")
        work = Path(scratch, "work")
        work.mkdir()
        command = [sys.executable, "-P", str(RUNNER), str(Path(scratch, "cells.json")), str(answer)]
        try:
            process = subprocess.run(
                command,
                cwd=work,
                env=variables,
                timeout=timeout,
                stdin=subprocess.DEVNULL,
                capture_output=True,
                text=True,
                check=False,
            )
        except subprocess.TimeoutExpired:
            message = f"the cells did not finish within {timeout:g} seconds"
            return Outcome(False, None, "TimeoutExpired", message, message, timeout)
        seconds = time.perf_counter() - start
        if not answer.is_file():
            message = f"Python ended with code {process.returncode}"
            return Outcome(False, None, "Died", message, process.stderr[-4000:], seconds)
        return Outcome(**json.loads(answer.read_text(encoding="utf-8")), seconds=seconds)
