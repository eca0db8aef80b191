"""Calls that an exercise asks to do without are found in the text and at run time."""

import pytest
import torch

from lectern.watched import Calls, in_text

SOFTMAX = ["torch.softmax", "torch.nn.functional.softmax", "torch.Tensor.softmax"]


@pytest.mark.parametrize(
    "code",
    [
        "torch.softmax(x, 0)",
        "x.softmax(0)",
        "(x - 1).softmax(0)",
        "import torch as t\nt.softmax(x, 0)",
        "import torch.nn.functional as F\nF.softmax(x, 0)",
        "F.softmax(x, 0)",
        "from torch import softmax as s\ns(x, 0)",
        "f = torch.softmax",
        "%time torch\ntorch.nn.functional.softmax(x)",
    ],
)
def test_a_call_is_found_in_the_text(code):
    found = in_text(code, SOFTMAX)
    assert [line for line, _ in found] == [len(code.splitlines())]


@pytest.mark.parametrize(
    "code",
    ["softmax(x)", "def softmax(x): ...", "my.log_softmax(x)", "x.exp() / x.exp().sum()", "((",
     "'torch.softmax'", "# torch.softmax"],
)  # fmt: skip
def test_other_code_is_left_alone(code):
    assert in_text(code, SOFTMAX) == []


def test_a_call_is_found_while_the_code_runs():
    space = {"__name__": "__main__", "torch": torch}
    exec("def f(x):\n    return getattr(torch, 'soft' + 'max')(x, 0)", space)
    with Calls(SOFTMAX) as calls:
        space["f"](torch.zeros(2))
    assert calls.found == [[2, "torch.softmax"]]
    assert torch.softmax(torch.zeros(2), 0).tolist() == [0.5, 0.5]


def test_a_call_through_a_module_is_found():
    space = {"__name__": "__main__", "torch": torch}
    exec("def f(x):\n    return torch.nn.Softmax(0)(x)", space)
    with Calls(SOFTMAX) as calls:
        space["f"](torch.zeros(2))
    assert [2, "torch.nn.functional.softmax"] in calls.found
    assert {line for line, _ in calls.found} == {2}


def test_what_the_library_calls_for_itself_does_not_count():
    from glassbox import losses

    space = {"__name__": "__main__", "losses": losses, "torch": torch}
    exec("def f(x):\n    return losses.softmax(x, 0)", space)
    with Calls(["torch.exp", "torch.Tensor.exp"]) as calls:
        space["f"](torch.zeros(2))
    assert calls.found == []


def test_everything_is_put_back_after_an_error():
    before = torch.softmax
    with pytest.raises(ZeroDivisionError), Calls(SOFTMAX):
        raise ZeroDivisionError
    assert torch.softmax is before
