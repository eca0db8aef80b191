"""The few cells that a claim needs, and running them against changed source code."""

import textwrap

import pytest
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook

from press.slicing import cells_for, claims_in, run_cells


def notebook(*cells: str):
    return new_notebook(cells=[new_code_cell(textwrap.dedent(cell).strip()) for cell in cells])


def kept(*cells: str) -> list[int]:
    """Return the slice for the last cell."""
    return cells_for(notebook(*cells), len(cells) - 1)


def test_what_the_cell_does_not_need_is_left_out():
    assert kept("a = 1", "b = 2", "c = a + 1", "d = b", "print(c)") == [0, 2, 4]


def test_prose_is_no_cell():
    chapter = new_notebook(
        cells=[new_code_cell("a = 1"), new_markdown_cell("a"), new_code_cell("a")]
    )
    assert cells_for(chapter, 2) == [0, 2]
    with pytest.raises(ValueError, match="not the position of a code cell"):
        cells_for(chapter, 1)


def test_a_cell_after_the_claim_is_never_needed():
    assert cells_for(notebook("a = 1", "a", "a = 2"), 1) == [0, 1]


def test_a_name_that_the_cell_binds_first_comes_from_nowhere_else():
    assert kept("x = slow()", "x = 1\nprint(x)") == [1]


def test_a_name_that_may_be_left_unbound_comes_from_before():
    assert kept("x = 1", "if False:\n    x = 2\nprint(x)") == [0, 1]


def test_imports_and_seeds_are_always_kept():
    assert kept("import math", "set_seed(3)", "torch.manual_seed(1)", "a = 1", "2") == [0, 1, 2, 4]


@pytest.mark.parametrize(
    "change",
    [
        "x += 1",
        "x[0] = 5",
        "x.grad = None",
        "x.requires_grad_()",
        "x.append(4)",
        "train(x)",
        "obj.method(x)",
        "torch.relu_(x)",
        "np.add(1, 1, out=x)",
        "del x[0]",
        "for i in range(3):\n    x[i] = 0",
        "with torch.no_grad():\n    x -= 1",
        "(x := 3)",
        "%time x = 3",
        "next(x)",
    ],
)
def test_a_cell_that_may_change_what_is_needed_is_kept(change):
    imports = "import torch\nimport numpy as np"
    assert kept(imports, "x = make()", "y = 2", change, "print(x)") == [0, 1, 3, 4]


@pytest.mark.parametrize(
    "look",
    [
        "print(x)",
        "x.shape",
        "x.mean()",
        "torch.stack([x, x])",
        "plt.plot(x)",
        "claim('it holds', x == 1, measured=x)",
        "len(x), sorted(x)",
        "fig, ax = plt.subplots()\nax.plot(x)",
    ],
)
def test_a_cell_that_only_looks_is_left_out(look):
    imports = "import torch\nimport matplotlib.pyplot as plt\nfrom press.claims import claim"
    assert kept(imports, "x = make()", look, "print(x)") == [0, 1, 3]


def test_an_optimizer_holds_its_parameters():
    cells = ("w = make()", "opt = SGD([w])", "other = 1", "opt.step()", "print(w)")
    assert kept(*cells) == [0, 1, 3, 4]


def test_a_loss_reaches_the_weights_that_it_was_computed_from():
    cells = ("w = make()", "loss = (w * 2).sum()", "loss.backward()", "print(w.grad)")
    assert kept(*cells) == [0, 1, 2, 3]


def test_a_function_that_changes_a_global_counts_where_it_is_called():
    cells = ("log = []", "def note(x):\n    log.append(x)", "note(1)", "other = 2", "print(log)")
    assert kept(*cells) == [0, 1, 2, 4]


def test_a_builtin_joins_nothing_together():
    cells = (
        "x = [1]",
        "y = [2]",
        "change(range, y)",
        "z = list(map(f, range(3)))",
        "print(x, range)",
    )
    assert kept(*cells) == [0, 4]


def test_a_name_that_hides_a_builtin_is_a_name_like_others():
    assert kept("map = [1]", "change(map)", "print(map)") == [0, 1, 2]


def test_what_a_needed_function_reads_is_needed():
    assert kept("k = 3", "def f(x):\n    return k * x", "n = 1", "f(2)") == [0, 1, 3]


def test_the_arguments_of_a_function_are_no_names_from_outside():
    assert kept("x = slow()", "def f(x):\n    return x", "f(2)") == [1, 2]


def test_claims_are_found_by_id_or_statement():
    chapter = notebook(
        "claim('One', True)", "x = 1", "if x:\n    claim('Two', x == 1, id='L1-two')", "!ls"
    )
    assert claims_in(chapter) == {"One": 0, "L1-two": 2}


# -- running -------------------------------------------------------------------------------------


@pytest.fixture
def source(tmp_path):
    package = tmp_path / "fakebox"
    package.mkdir()
    (package / "__init__.py").write_text("def double(x):\n    return 2 * x\n")
    return tmp_path


CHAPTER = notebook(
    "from fakebox import double",
    "from press.claims import claim",
    "raise RuntimeError('a slow cell that the claim does not need')",
    "y = double(3)",
    "claim('Twice three is six', y == 6, measured=y)",
)


def test_a_slice_runs_without_the_rest_of_its_chapter(source):
    outcome = run_cells(CHAPTER, cells_for(CHAPTER, 4), source)
    assert outcome.passed, outcome.traceback
    assert outcome.cell is None


def test_broken_source_is_named_by_the_claim(source):
    (source / "fakebox/__init__.py").write_text("def double(x):\n    return 3 * x\n")
    outcome = run_cells(CHAPTER, cells_for(CHAPTER, 4), source)
    assert not outcome.passed
    assert outcome.cell == 4
    assert outcome.error == "ClaimError"
    assert "Twice three is six" in outcome.message
    assert "9" in outcome.message


def test_a_cell_that_may_fail_does_not_end_the_run(source):
    chapter = notebook("%matplotlib inline\n1 / 0", "print('on')")
    chapter.cells[0].metadata["tags"] = ["raises-exception"]
    assert run_cells(chapter, [0, 1], source).passed


def test_a_run_that_takes_too_long_or_dies_is_a_failure(source):
    assert run_cells(notebook("while True: pass"), [0], source, timeout=3).error == "TimeoutExpired"
    died = run_cells(notebook("import os; os._exit(3)"), [0], source)
    assert (died.passed, died.error, died.message) == (False, "Died", "Python ended with code 3")
