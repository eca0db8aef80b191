"""What a claim and an inserted number are, in a page, in a terminal and in plain Python."""

import json
import math
import re
import subprocess
import sys
from html.parser import HTMLParser

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from IPython.core.interactiveshell import InteractiveShell
from IPython.utils.capture import capture_output

from press.claims import CLAIM_MIME, ClaimError, claim, format_value, glue


@pytest.fixture
def shown(monkeypatch: pytest.MonkeyPatch) -> list[dict]:
    """What was displayed, as if this were a notebook: a list of (data, metadata)."""
    outputs: list[dict] = []
    monkeypatch.setattr(
        "press.claims._display",
        lambda data, metadata: outputs.append({"data": data, "metadata": metadata}),
    )
    return outputs


def record(shown: list[dict]) -> dict:
    """The data of the claim displayed last."""
    return shown[-1]["data"][CLAIM_MIME]


def html(shown: list[dict]) -> str:
    """The HTML of the claim displayed last."""
    return shown[-1]["data"]["text/html"]


@pytest.mark.parametrize("condition", [True, np.True_, torch.tensor(True)])
def test_true_claim_is_displayed(shown: list[dict], condition: object):
    claim("It holds", condition)
    assert record(shown)["passed"] is True
    assert "✓" in html(shown)
    assert shown[-1]["data"]["text/plain"] == "✓ It holds"


@pytest.mark.parametrize("condition", [False, np.False_, torch.tensor(False), np.array(False)])
def test_false_claim_stops_and_names_statement_and_values(shown: list[dict], condition: object):
    with pytest.raises(ClaimError) as error:
        claim("Six is seven", condition, measured=6, reported=7.5, source="a paper", id="six")
    for part in ["Six is seven", "6", "7.5", "a paper", "six"]:
        assert part in str(error.value)
    assert isinstance(error.value, AssertionError)
    assert record(shown)["passed"] is False
    assert "✗" in html(shown)


@pytest.mark.parametrize(
    "condition",
    [
        1,
        0,
        None,
        "yes",
        math.nan,
        [True],
        (),
        np.array([True]),
        np.float64(1),
        torch.tensor(1),
        torch.tensor([True]),
        torch.tensor([True, False]),
    ],
)
def test_condition_must_be_able_to_fail(shown: list[dict], condition: object):
    with pytest.raises(TypeError, match=r"condition must be a bool.*able to fail"):
        claim("It holds", condition)  # type: ignore[arg-type]
    assert shown == []


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"statement": ""}, "statement is empty"),
        ({"statement": " \n"}, "statement is empty"),
        ({"statement": 3}, "statement must be text, not int"),
        ({"measured": object()}, "measured must be a number.*not object"),
        ({"measured": {"a": {1, 2}}}, r"measured\['a'\] must be a number.*not set"),
        ({"measured": torch.zeros(101)}, "measured has 101 values; at most 100"),
        ({"measured": np.zeros((20, 20))}, "measured has 400 values"),
        ({"reported": 3}, "reported figure needs its source"),
        ({"reported": 3, "id": "mine"}, "reported figure needs its source"),
        ({"reported": 3, "source": " "}, "source must be text"),
        ({"id": ""}, "id must be letters"),
        ({"id": "a b"}, "id must be letters"),
        ({"id": '"><script>'}, "id must be letters"),
        ({"tolerance": -0.1}, "tolerance must be 0 or more and finite, not -0.1"),
        ({"tolerance": math.nan}, "tolerance must be 0 or more and finite, not nan"),
        ({"tolerance": "1%"}, "tolerance must be a number, not str"),
        ({"tolerance": True}, "tolerance must be a number, not bool"),
    ],
)
def test_bad_argument_gets_one_sentence_that_names_it(
    shown: list[dict], arguments: dict, message: str
):
    with pytest.raises((TypeError, ValueError), match=message):
        claim(**{"statement": "It holds", "condition": True, **arguments})
    assert shown == []


@pytest.mark.parametrize(
    ("measured", "plain"),
    [
        (3, 3),
        (0.5, 0.5),
        ("many", "many"),
        (torch.tensor(3), 3),
        (torch.tensor(0.5, requires_grad=True), 0.5),
        (np.float32(0.5), 0.5),
        (np.int64(3), 3),
        (torch.tensor([1, 2]), [1, 2]),
        (np.array([1.5]), [1.5]),
        ((1, torch.tensor(2.5)), [1, 2.5]),
        ({"a": np.float64(1.5), 7: [True]}, {"a": 1.5, "7": [True]}),
        (math.nan, "NaN"),
        (-math.inf, "-Infinity"),
        ([math.inf, 1.0], ["Infinity", 1.0]),
    ],
)
def test_measured_values_become_plain_json(shown: list[dict], measured: object, plain: object):
    claim("It holds", True, measured=measured)  # type: ignore[arg-type]
    assert record(shown)["measured"] == plain
    json.dumps(record(shown), allow_nan=False)


def agreement(shown: list[dict], measured: object, reported: object, **others: object) -> dict:
    """What the claim says on the agreement of two values."""
    claim("It holds", True, measured=measured, reported=reported, id="L10-bn", **others)
    return record(shown)["agreement"]


def test_agreement_is_relative_to_the_reported_figure(shown: list[dict]):
    assert agreement(shown, 102, 100)["agrees"] is True
    assert agreement(shown, 102.1, 100)["agrees"] is False
    assert agreement(shown, 98, 100)["agrees"] is True
    assert agreement(shown, -98, -100)["agrees"] is True
    assert agreement(shown, 110, 100, tolerance=0.1)["agrees"] is True
    assert agreement(shown, 100.1, 100, tolerance=0)["agrees"] is False
    assert agreement(shown, 0.019, 0)["agrees"] is True
    assert agreement(shown, 0.021, 0)["agrees"] is False
    assert agreement(shown, math.nan, math.nan)["agrees"] is True
    assert agreement(shown, math.nan, 1)["agrees"] is False
    assert agreement(shown, math.inf, math.inf)["agrees"] is True
    assert agreement(shown, math.inf, -math.inf)["agrees"] is False


@pytest.mark.parametrize(
    ("measured", "reported", "words"),
    [
        (0.97, 0.9439, "this run measured 0.97, 2.8 % higher: outside the tolerance of 2 %"),
        (0.5, 0.9439, "47 % lower"),
        (9.0, 3.0, "3 times the reported figure"),
        (1.0, -1.0, "2 higher"),
        (math.nan, 1.0, "measured nan, which differs: outside"),
        (0.95, 0.9439, "measured 0.95, which agrees within 2 %."),
        (6.25, 6.25, "The lesson reported 6.25; this run measured 6.25, the same."),
        ({"median": 0.5, "seeds": [0.4, 0.5]}, 1.0, "this run's median is 0.5, 50 % lower"),
        ([1.0, 2.0], [1.0, 4.0], "reported 4 for value 2; this run measured 2, 50 % lower"),
        ({"a": 1.0, "b": 2.0}, {"a": 1.0, "b": 2.0}, "All 2 values agree"),
        ({"a": 1, "b": 2, "c": 3}, {"a": 1, "b": 9, "c": 3}, "The other 2 values agree"),
    ],
)
def test_difference_is_told_in_words_in_the_page(
    shown: list[dict], measured: object, reported: object, words: str
):
    assert words in agreement(shown, measured, reported)["text"]
    assert ("gb-agrees" if record(shown)["agreement"]["agrees"] else "gb-differs") in html(shown)
    assert words in html(shown).replace("&#x27;", "'")


def test_disagreement_does_not_fail_the_claim(shown: list[dict]):
    claim("It holds", True, measured=1, reported=100, source="a lesson")
    assert record(shown)["passed"] is True
    assert record(shown)["agreement"]["agrees"] is False


@pytest.mark.parametrize(
    ("measured", "reported"),
    [(1, None), (None, 1), (1, "about 1"), ([1, 2], [1]), ({"a": 1}, {"b": 1}), (True, True)],
)
def test_what_cannot_be_compared_is_not(shown: list[dict], measured: object, reported: object):
    claim("It holds", True, measured=measured, reported=reported, source="2019 lesson 10")
    assert record(shown)["agreement"] is None


def test_only_a_lesson_is_called_a_lesson(shown: list[dict]):
    claim("It holds", True, measured=1, reported=1, source="Kingma and Ba, 2015")
    assert record(shown)["agreement"]["text"].startswith("The source reported")
    claim("It holds", True, measured=1, reported=1, source="2019 lesson 10")
    assert record(shown)["agreement"]["text"].startswith("The lesson reported")


class Balanced(HTMLParser):
    """Checks that every element is closed, and collects classes, anchors and text."""

    def __init__(self, text: str):
        super().__init__()
        self.open: list[str] = []
        self.classes: set[str] = set()
        self.ids: list[str] = []
        self.words: list[str] = []
        self.attributes: set[str] = set()
        self.feed(text)
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.open.append(tag)
        self.attributes |= {name for name, _ in attrs}
        self.classes |= set((dict(attrs).get("class") or "").split())
        self.ids += [value for name, value in attrs if name == "id" and value]

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.words.append(data)


def test_html_is_well_formed_escaped_and_unstyled(shown: list[dict]):
    nasty = "<script>alert('x')</script> & \"y\""
    claim(nasty, True, measured={nasty: nasty}, reported={nasty: nasty}, source=nasty)
    page = Balanced(html(shown))
    assert "<script" not in html(shown)
    assert "".join(page.words).count(nasty) >= 4
    assert "style" not in page.attributes
    assert {"gb-claim", "gb-claim-passed", "gb-claim-table", "gb-claim-source"} <= page.classes
    assert len(page.ids) == 1


def test_every_anchor_is_unique(shown: list[dict]):
    for name in ["twice", "twice", "Twice", "twice-2"]:
        claim("It holds", True, id=name)
    anchors = [output["data"][CLAIM_MIME]["anchor"] for output in shown]
    assert len(set(anchors)) == 4
    assert all(
        f'id="{anchor}"' in o["data"]["text/html"]
        for anchor, o in zip(anchors, shown, strict=False)
    )


def test_identifier_is_made_of_the_statement_when_none_is_given(shown: list[dict]):
    claim("Both forms, 2 of them, agree!", True)
    assert record(shown)["id"] == "both-forms-2-of-them-agree"
    claim("7 > 3", True)
    assert re.fullmatch(r"[a-z][a-z0-9-]*", record(shown)["id"])


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0.94389998, "0.9439"),
        (12345.678, "12,346"),
        (12000, "12,000"),
        (9999.96, "10,000"),
        (0.5, "0.5"),
        (1.0, "1"),
        (-0.12345678, "-0.1235"),
        (1.2346e-7, "1.235e-07"),
        (0.0, "0"),
        (math.nan, "nan"),
        (math.inf, "inf"),
        (True, "true"),
        ("text", "text"),
        ([1, 0.5], "1, 0.5"),
        ({"a": 1.0}, "a 1"),
    ],
)
def test_values_are_shown_with_four_digits(value: object, text: str):
    assert format_value(value) == text  # type: ignore[arg-type]


@given(st.floats(min_value=-1e300, max_value=1e300))
def test_shown_value_is_the_value_rounded(value: float):
    shown = float(format_value(value).replace(",", ""))
    assert shown == pytest.approx(value, rel=5.1e-4, abs=0)


def test_figure_is_shown_with_the_digits_it_was_published_with(shown: list[dict]):
    claim("It holds", True, measured=47.1875, reported=47.1875, id="L10-var")
    assert html(shown).count("<td>47.1875</td>") == 2


@pytest.mark.parametrize(
    ("value", "stored"),
    [
        (0.5, "0.5"),
        (3, "3"),
        ("text", "'text'"),
        (torch.tensor(0.5), "0.5"),
        (torch.tensor(3), "3"),
        (np.float32(0.5), "0.5"),
        (np.array(3), "3"),
        (True, "True"),
        (math.nan, "nan"),
    ],
)
def test_glue_stores_a_python_value_that_is_not_shown(
    shown: list[dict], value: object, stored: str
):
    glue("name", value)  # type: ignore[arg-type]
    prefix = "application/papermill.record/"
    assert shown == [
        {
            "data": {f"{prefix}text/plain": stored},
            "metadata": {"scrapbook": {"name": "name", "mime_prefix": prefix}},
        }
    ]


@pytest.mark.parametrize("value", [None, [1], {"a": 1}, torch.zeros(2), np.zeros(1), object()])
def test_glue_takes_one_value(shown: list[dict], value: object):
    with pytest.raises(TypeError, match=r"glue\('name'\): value must be"):
        glue("name", value)  # type: ignore[arg-type]
    assert shown == []


@pytest.mark.parametrize("name", ["", "a b", "a:b", "a`b", "1st", None])
def test_glue_needs_a_name_that_a_role_can_hold(shown: list[dict], name: object):
    with pytest.raises(ValueError, match="name must be letters"):
        glue(name, 1)  # type: ignore[arg-type]
    assert shown == []


def test_ipython_shows_the_line_and_hides_what_is_glued(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(InteractiveShell, "initialized", classmethod(lambda cls: True))
    InteractiveShell.instance()
    try:
        with capture_output() as captured:
            claim("It holds", True, measured=3)
            glue("name", 3)
        first, second = captured.outputs
        assert first.data["text/plain"] == "✓ It holds (measured 3)"
        assert set(second.data) == {"application/papermill.record/text/plain"}
    finally:
        InteractiveShell.clear_instance()


def test_plain_python_needs_neither_notebook_nor_torch_and_prints_nothing():
    code = (
        "import sys\nfrom press.claims import claim, glue\n"
        "claim('It holds', True, measured=1.5)\nglue('name', 2)\n"
        "assert not {'torch', 'myst_nb', 'sphinx'} & set(sys.modules)\n"
        "claim('It does not', False, measured=1.5)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == 1
    assert done.stdout == ""
    assert "ClaimError: It does not: this does not hold here. Measured: 1.5." in done.stderr
