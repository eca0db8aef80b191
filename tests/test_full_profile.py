"""The book of the `full` profile, built from the lessons' data where they are at hand.

Pytest comes to this file last, and the site that it leaves in ``_build/html`` is the full one.
``GLASSBOX_FULL_DATA`` names the folder of the data.
"""

import json
import os
import subprocess
from pathlib import Path

import pytest

CHECKOUT = Path(__file__).resolve().parents[1]
DATA = os.environ.get("GLASSBOX_FULL_DATA")
LESSON_RESULTS = [
    *("L10-var", "L4-sim", "L4-lin", "L4-net", "L6-sgd", "L10-cnn", "L10-hooks", "L10-kaiming"),
    *("L10-grelu", "L10-dead", "L10-sched", "L10-lsuv", "L10-nobn", "L10-bn", "L10-bnsched"),
    *("L10-ln", "L10-in", "L10-bs2", "L10-rbn", "L10-one", "L4-res", "L6-char3", "L6-loop"),
    *("L6-cat", "L6-nnrnn", "L6-multi", "L6-eye", "L6-state", "L6-gru", "L6-ross", "L6-emb"),
    "L6-collab",
]

pytestmark = pytest.mark.skipif(not DATA, reason="GLASSBOX_FULL_DATA names no folder of data")


@pytest.fixture(scope="module")
def claims():
    environment = {k: v for k, v in os.environ.items() if not k.startswith("GLASSBOX_")}
    environment.pop("MAKEFLAGS", None)
    result = subprocess.run(
        ["make", "book", "PROFILE=full", f"GLASSBOX_DATA={DATA}"],
        cwd=CHECKOUT,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    print(result.stdout)
    assert result.returncode == 0, "make book PROFILE=full failed; its output is above"
    return json.loads((CHECKOUT / "_build/html/claims.json").read_text())


def test_every_claim_holds(claims):
    assert claims
    assert [claim["statement"] for claim in claims if not claim["passed"]] == []
    assert {claim["profile"] for claim in claims} == {"full"}


@pytest.mark.parametrize("name", LESSON_RESULTS)
def test_a_lesson_s_result_stands_beside_ours(claims, name):
    (found,) = [claim for claim in claims if claim["id"] == name]
    assert found["measured"] is not None
    assert found["reported"] is not None
    assert found["source"]
