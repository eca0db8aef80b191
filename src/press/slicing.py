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
import builtins
import json
import os
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable, Mapping, Set
from dataclasses import dataclass, field
from pathlib import Path

from nbformat import NotebookNode

RUNNER = Path(__file__).with_name("cell_runner.py")


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


_BUILTINS = frozenset(dir(builtins))  # no call changes them, whatever it is handed
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
# What returns (a part of) its argument rather than something new.
_VIEWS = _words(
    """
    as_tensor asarray cpu detach dict double enumerate expand filter flatten float from_numpy
    getattr items list long map numpy permute ravel reshape reversed split squeeze to transpose
    tuple unbind unsqueeze values view zip
    """
)
# Functions of these modules leave their arguments as they are and return something new.
_PURE_MODULES = (
    *("glassbox.losses", "glassbox.plots", "glassbox.stats", "press.claims"),
    *("IPython.display", "math", "matplotlib", "numpy", "statistics", "torch"),
)
# What sets the state of the whole process, as functions of a module: always kept.
_GLOBAL_STATE = _words(
    """
    filterwarnings manual_seed manual_seed_all seed set_default_device set_default_dtype
    set_num_threads set_printoptions set_seed simplefilter use_deterministic_algorithms use_style
    """
)


@dataclass
class _Function:
    """What calling a function of the chapter may do."""

    touches: set[str]  # names of the chapter
    uses: set[str]
    touches_arguments: bool


@dataclass
class _Cell:
    """What one cell does with names."""

    binds: set[str] = field(default_factory=set)
    surely_binds: set[str] = field(default_factory=set)
    uses: set[str] = field(default_factory=set)
    touches: set[str] = field(default_factory=set)  # may change the object, and what it holds
    spreads: set[str] = field(default_factory=set)  # … and what it was computed from
    draws_on: set[str] = field(default_factory=set)  # changes the object alone
    holds: list[set[str]] = field(default_factory=list)  # names that may hold one another
    computed: list[set[str]] = field(default_factory=list)  # one was computed from the others
    figures: set[str] = field(default_factory=set)  # pictures: what is drawn stays as it is
    imports: dict[str, str] = field(default_factory=dict)  # where an imported name is from
    functions: dict[str, _Function] = field(default_factory=dict)
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
    imports: dict[str, str] = {}
    functions: dict[str, _Function] = {}
    cells = {}
    for index in before:
        cells[index] = _analyse(notebook.cells[index].source, imports, functions)
        imports |= cells[index].imports
        functions |= cells[index].functions
    # A name that is bound anew stands for another object from then on: `x@7` is the x of cell 7.
    versions: dict[int, dict[str, str]] = {}
    current: dict[str, str] = {}
    for index, cell in cells.items():
        versions[index] = dict(current)
        current |= {name: f"{name}@{index}" for name in cell.binds - cell.uses}

    def objects(names: Set[str], index: int) -> set[str]:
        bound = cells[index].binds - cells[index].uses
        return {f"{n}@{index}" if n in bound else versions[index].get(n, n) for n in names}

    builtin = _BUILTINS.difference(*(cell.binds for cell in cells.values()))
    for cell in cells.values():
        cell.spreads -= builtin
        cell.touches -= builtin
    figures = set().union(*(cell.figures for cell in cells.values()))
    apart = imports.keys() | functions.keys() | figures | builtin
    holds = [objects(link - apart, i) for i, cell in cells.items() for link in cell.holds]
    computed = [objects(link - apart, i) for i, cell in cells.items() for link in cell.computed]
    held, reached = _groups(holds), _groups([*holds, *computed])
    changed = {
        index: objects(cell.draws_on, index).union(
            *(held.get(name, {name}) for name in objects(cell.touches, index)),
            *(reached.get(name, {name}) for name in objects(cell.spreads, index)),
        )
        for index, cell in cells.items()
    }

    kept: set[int] = set()
    waiting = [cell_index, *(index for index in before if cells[index].always)]
    while waiting:
        index = waiting.pop()
        if index in kept:
            continue
        kept.add(index)
        # For each name that the cell uses: what bound it last, and what changed it since.
        for name in cells[index].uses:
            version = versions[index].get(name, name)
            for earlier in reversed([b for b in before if b < index]):
                if name in cells[earlier].binds or version in changed[earlier]:
                    waiting.append(earlier)
                if name in cells[earlier].surely_binds:
                    break
    return sorted(kept)


def _groups(links: Iterable[set[str]]) -> dict[str, set[str]]:
    """Return for each name all names that are linked with it, directly or through others."""
    groups: dict[str, set[str]] = {}
    for link in links:
        merged = link.union(*(groups.get(name, set()) for name in link))
        for name in merged:
            groups[name] = merged
    return groups


def _analyse(source: str, imports: Mapping[str, str], functions: Mapping[str, _Function]) -> _Cell:
    from IPython.core.inputtransformer2 import TransformerManager

    cell = _Cell()
    try:
        tree = ast.parse(TransformerManager().transform_cell(source))
    except SyntaxError:
        # A cell that shows a syntax error: it binds nothing, for it does not run.
        return cell
    _Reader(cell, imports, functions).visit(tree)
    if all(isinstance(node, ast.Import | ast.ImportFrom) for node in tree.body):
        cell.always = bool(tree.body)
    # A name that the cell itself binds before it reads it does not come from outside, but one
    # that a `for` or an `if` may leave unbound does: only plain statements at the top count.
    outside: set[str] = set()
    for statement in tree.body:
        used = _loads(statement)
        if isinstance(statement, ast.AugAssign):
            used |= _names(statement.target)
        if isinstance(statement, ast.For):
            inside = set().union(*map(_loads, [*statement.body, *statement.orelse]))
            used = _loads(statement.iter) | (inside - _names(statement.target))
        outside |= used - cell.surely_binds - _comprehension_names(statement)
        cell.surely_binds |= _bound_by(statement)
    cell.uses -= _loads(tree) - outside
    return cell


def _comprehension_names(tree: ast.AST) -> set[str]:
    """Return the names that exist only inside comprehensions and lambdas."""
    inside: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.comprehension):
            inside |= _names(node.target)
        elif isinstance(node, ast.Lambda):
            inside |= {a.arg for a in ast.walk(node.args) if isinstance(a, ast.arg)}
    # The same name elsewhere in the statement is another one.
    return inside - _names_outside_comprehensions(tree)


def _names_outside_comprehensions(tree: ast.AST) -> set[str]:
    if isinstance(tree, ast.ListComp | ast.SetComp | ast.GeneratorExp | ast.DictComp | ast.Lambda):
        return set()
    own = {tree.id} if isinstance(tree, ast.Name) else set()
    return own.union(*map(_names_outside_comprehensions, ast.iter_child_nodes(tree)))


def _names(tree: ast.AST) -> set[str]:
    """Return the names in a syntax tree."""
    return {node.id for node in ast.walk(tree) if isinstance(node, ast.Name)}


def _loads(tree: ast.AST) -> set[str]:
    """Return the names that are read anywhere in a syntax tree."""
    return {
        node.id
        for node in ast.walk(tree)
        if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Load)
    }


def _bound_by(statement: ast.stmt) -> set[str]:
    """Return the names that a statement binds whatever happens."""
    match statement:
        case ast.FunctionDef() | ast.ClassDef() | ast.AsyncFunctionDef():
            return {statement.name}
        case ast.Import() | ast.ImportFrom():
            return {alias.asname or alias.name.partition(".")[0] for alias in statement.names}
        case ast.With():
            return set().union(*map(_bound_by, statement.body))
        case ast.Assign():
            targets = statement.targets
        case ast.AnnAssign() if statement.value is not None:
            targets = [statement.target]
        case _:
            return set()
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
    """Collects what a cell, or the body of a function, does with names."""

    def __init__(
        self, cell: _Cell, imports: Mapping[str, str], functions: Mapping[str, _Function]
    ) -> None:
        self.cell = cell
        self.imports = dict(imports)
        self.functions = dict(functions)
        self.stands_for: dict[str, set[str]] = {}

    def _comprehension(
        self, node: ast.ListComp | ast.SetComp | ast.GeneratorExp | ast.DictComp
    ) -> None:
        before = dict(self.stands_for)
        for part in node.generators:
            names = self._resolve(_loads(part.iter))
            self.stands_for |= {name: names for name in _names(part.target)}
        bound = set(self.cell.binds)
        self.generic_visit(node)
        self.cell.binds &= bound | {
            n.target.id for n in ast.walk(node) if isinstance(n, ast.NamedExpr)
        }
        self.stands_for = before

    visit_ListComp = _comprehension
    visit_SetComp = _comprehension
    visit_GeneratorExp = _comprehension
    visit_DictComp = _comprehension

    def _resolve(self, names: set[str]) -> set[str]:
        """Replace the variables of comprehensions by the names of what they run through."""
        return set().union(*(self.stands_for.get(name, {name}) for name in names))

    def visit_Name(self, node: ast.Name) -> None:
        if not isinstance(node.ctx, ast.Load):
            self.cell.binds.add(node.id)
            return
        self.cell.uses.add(node.id)
        if node.id in self.functions:
            # It may be called here or later: what it does counts where it is named.
            self.cell.spreads |= self.functions[node.id].touches
            self.cell.uses |= self.functions[node.id].uses

    def visit_Import(self, node: ast.Import) -> None:
        self._import({a.asname or a.name.partition(".")[0]: a.name for a in node.names})

    def visit_ImportFrom(self, node: ast.ImportFrom) -> None:
        self._import({a.asname or a.name: f"{node.module}.{a.name}" for a in node.names})

    def _import(self, names: dict[str, str]) -> None:
        self.cell.binds |= names.keys()
        self.cell.imports |= names
        self.imports |= names

    def _definition(self, node: ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef) -> None:
        inner = _Cell()
        reader = _Reader(inner, self.imports, self.functions)
        for child in ast.iter_child_nodes(node):
            reader.visit(child)
        arguments = {a.arg for a in ast.walk(node) if isinstance(a, ast.arg)}
        declared = {name for n in ast.walk(node) if isinstance(n, ast.Global) for name in n.names}
        local = (inner.binds | arguments) - declared
        known = self.imports.keys() | (_BUILTINS - local)
        groups = _groups(link - known for link in [*inner.holds, *inner.computed])
        changed = set().union(
            declared,
            inner.draws_on,
            *(groups.get(name, {name}) for name in inner.touches | inner.spreads),
        )
        function = _Function(
            touches=changed - local,
            uses=inner.uses - local - {node.name},
            # The methods of a class keep what they are given.
            touches_arguments=bool(changed & arguments) or isinstance(node, ast.ClassDef),
        )
        self.cell.binds.add(node.name)
        self.cell.uses |= function.uses
        self.cell.functions[node.name] = self.functions[node.name] = function

    visit_FunctionDef = _definition
    visit_AsyncFunctionDef = _definition
    visit_ClassDef = _definition

    def _assignment(self, node: ast.Assign | ast.AnnAssign | ast.AugAssign) -> None:
        targets = node.targets if isinstance(node, ast.Assign) else [node.target]
        names = _loads(node.value) - _comprehension_names(node.value) if node.value else set()
        plain = True
        for target in targets:
            if not isinstance(target, ast.Name | ast.Tuple | ast.List | ast.Starred):
                # `x[0] = y` and `x.y = z` change x, which holds the value from then on.
                plain = False
                self.cell.touches |= {base} if (base := _base(target)) else set()
            names |= _names(target)
        if node.value is not None and getattr(node.value, "func", None) is not None:
            name = ast.unparse(node.value.func).rpartition(".")[2]  # type: ignore[attr-defined]
            if name in {"figure", "subplots"}:
                self.cell.figures |= names
        if isinstance(node, ast.AugAssign):
            # `x += 1` changes a tensor in place, and then everything that shares it.
            base = _base(node.target)
            self.cell.touches |= {base} if base else set()
            self.cell.uses |= {base} if base else set()
        fresh = plain and node.value is not None and self._is_fresh(node.value)
        (self.cell.computed if fresh else self.cell.holds).append(names - self.imports.keys())
        self.generic_visit(node)

    visit_Assign = _assignment
    visit_AnnAssign = _assignment
    visit_AugAssign = _assignment

    def visit_For(self, node: ast.For) -> None:
        self.cell.holds.append((_loads(node.iter) | _names(node.target)) - self.imports.keys())
        self.generic_visit(node)

    def visit_Delete(self, node: ast.Delete) -> None:
        self.cell.touches |= {base for t in node.targets if (base := _base(t))}
        self.generic_visit(node)

    def visit_Call(self, node: ast.Call) -> None:
        self.generic_visit(node)
        function = node.func
        base = _base(function)
        if isinstance(function, ast.Attribute):
            if base == "get_ipython" and function.attr.startswith("run_"):
                self._magic(node)
                return
            if function.attr in _DRAWING:
                pictures = {base} - self.imports.keys() if base else set()
                self.cell.draws_on |= pictures
                self.cell.figures |= pictures
                return
        name = function.attr if isinstance(function, ast.Attribute) else base
        if name in _GLOBAL_STATE and not (
            isinstance(function, ast.Attribute) and isinstance(function.value, ast.Call)
        ):
            self.cell.always = True
        if self._is_pure(node):
            return
        names = {base} if base else set()
        for argument in [*node.args, *(keyword.value for keyword in node.keywords)]:
            names |= _loads(argument) - _comprehension_names(argument)
        self.cell.spreads |= self._resolve(names) - self.imports.keys() - self.functions.keys()

    def _is_pure(self, call: ast.Call) -> bool:
        """Say whether a call is known to change nothing."""
        function, base = call.func, _base(call.func)
        if any(keyword.arg in {"out", "inplace"} for keyword in call.keywords):
            return False
        if isinstance(function, ast.Name):
            if function.id in self.functions:
                return not self.functions[function.id].touches_arguments
            if function.id in _PURE_FUNCTIONS:
                return True
            name = function.id
        elif isinstance(function, ast.Attribute):
            name = function.attr
            if name in _PURE_METHODS:
                return True
        else:
            return False
        origin = self.imports.get(base or "", "")
        return (
            name[:1].islower()
            and not name.endswith("_")
            and any(origin == m or origin.startswith(f"{m}.") for m in _PURE_MODULES)
        )

    def _is_fresh(self, value: ast.expr) -> bool:
        """Say whether an expression gives an object that holds none of those it is made of."""
        match value:
            case ast.Constant() | ast.JoinedStr() | ast.BinOp() | ast.UnaryOp() | ast.Compare():
                return True
            case ast.Tuple() | ast.List() | ast.Set():
                return all(map(self._is_fresh, value.elts))
            case ast.ListComp() | ast.SetComp() | ast.GeneratorExp():
                return self._is_fresh(value.elt)
            case ast.DictComp():
                return self._is_fresh(value.value)
            case ast.Call():
                name = getattr(value.func, "attr", None) or getattr(value.func, "id", "")
                return name not in _VIEWS and name not in self.functions and self._is_pure(value)
            case _:
                return False

    def _magic(self, node: ast.Call) -> None:
        # IPython hands the code of a magic on as text.
        for argument in node.args[1:]:
            if isinstance(argument, ast.Constant) and isinstance(argument.value, str):
                names = set(re.findall(r"\b[A-Za-z_]\w*\b", argument.value))
                self.cell.uses |= names
                self.cell.spreads |= names - self.imports.keys()
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
