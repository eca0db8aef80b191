"""The code of claims stands folded; nothing of a cell is lost by it."""

import pytest

from press.folding import split_cell

EXPERIMENT = "x = f(3)\nprint(x)"
CLAIM = 'claim(\n    "It is three",\n    x == 3,\n)'


def test_a_claim_is_parted_from_the_experiment_before_it():
    assert split_cell(f"{EXPERIMENT}\n{CLAIM}") == [(False, EXPERIMENT), (True, CLAIM)]


def test_claims_and_glue_side_by_side_are_one_piece():
    both = f'{CLAIM}\nglue("x", x)'
    assert split_cell(f"{both}\nx.shape") == [(True, both), (False, "x.shape")]


@pytest.mark.parametrize(
    "row",
    [
        'glue("x", x), glue("y", y)',
        'glue("x", x), glue("y", y);',
        '(\n    glue("x", x),\n    claim("It is three", x == 3),\n)',
    ],
)
def test_a_row_of_them_is_one_piece_too(row):
    assert split_cell(f"{EXPERIMENT}\n{row}") == [(False, EXPERIMENT), (True, row)]


def test_a_comment_goes_with_what_follows_it():
    code = f"x = 3\n\n# A lucky number.\n{CLAIM}"
    assert split_cell(code) == [(False, "x = 3"), (True, f"# A lucky number.\n{CLAIM}")]


@pytest.mark.parametrize(
    "code",
    [
        EXPERIMENT,
        'for x in xs:\n    claim("It is three", x == 3)',
        "# only a comment",
        "%timeit f(3)\nclaim('It is quick', True)",
        "claims(3)",
        "module.claim(3)",
        'glue("x", x), x.shape',
        'both = glue("x", x), glue("y", y)',
        "()",
        "",
    ],
)
def test_everything_else_stays_as_it_is(code):
    assert split_cell(code) == [(False, code)] if code else split_cell(code) == []


def test_a_string_that_holds_blank_lines_keeps_them():
    text = 'text = """one\n\n\ntwo"""'
    assert split_cell(f"{text}\n{CLAIM}") == [(False, text), (True, CLAIM)]
