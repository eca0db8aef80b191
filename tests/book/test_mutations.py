"""Break the library under the book, and see the book's claims say so.

Each mutation changes one line of `src/glassbox`. The cells that one claim needs are run against the
changed copy: the claim must fail and be named. The same cells are run against the library as it is
first, or a claim that always fails would pass for one that caught something.
"""

import shutil
from functools import cache
from pathlib import Path
from typing import NamedTuple

import pytest

from press.execution import Book, current_conditions, execute, read_chapters
from press.slicing import Outcome, cells_for, claims_in, run_cells

ROOT = Path(__file__).parents[2]
ENVIRONMENT = {"OMP_NUM_THREADS": "1", "GLASSBOX_PROFILE": "sample", "GLASSBOX_DEVICE": "cpu"}


class Mutation(NamedTuple):
    module: str
    old: str
    new: str
    chapter: str
    claim: str


MUTATIONS = {
    "the sign of the cross-entropy": Mutation(
        "losses", "return -log_probs[rows, targets]", "return log_probs[rows, targets]",
        "softmax", "cross_entropy equals torch's function and class",
    ),
    "the sign of the negative log likelihood": Mutation(
        "losses", "return -log_probs[rows, targets]", "return log_probs[rows, targets]",
        "softmax", "nll_loss equals torch's, value and gradient",
    ),
    "log-softmax along the wrong dimension": Mutation(
        "losses", "return shifted - shifted.exp().sum(dim, keepdim=True).log()",
        "return shifted - shifted.exp().sum(0, keepdim=True).log()",
        "softmax", "softmax, log_softmax and logsumexp equal torch's",
    ),
    "softmax without its denominator": Mutation(
        "losses", "return exponentials / exponentials.sum(dim, keepdim=True)",
        "return exponentials", "softmax", "With two classes, softmax is the sigmoid",
    ),
    "softmax without taking the maximum out": Mutation(
        "losses", "exponentials = (x - _finite_max(x, dim)).exp()", "exponentials = x.exp()",
        "softmax", "softmax, log_softmax and logsumexp equal torch's",
    ),
    "the sigmoid's other branch": Mutation(
        "losses", "below / (1 + below))", "1 / (1 + below))", "softmax",
        "sigmoid equals torch's, value and gradient, for small and for huge",
    ),
    "the mean squared error as a sum": Mutation(
        "losses", "return ((pred - target) ** 2).mean()", "return ((pred - target) ** 2).sum()",
        "neural-net", "Mean squared error: by hand, glassbox and torch agree",
    ),
    "momentum that is damped": Mutation(
        "optim", '.mul_(group["momentum"]).add_(grad)',
        '.mul_(group["momentum"]).add_(grad, alpha=1 - group["momentum"])', "sgd",
        "Our SGD equals torch.optim.SGD at every step",
    ),
    "Adam without the correction of its averages": Mutation(
        "optim", 'average = state["average"] / (1 - beta1 ** state["step"])',
        'average = state["average"]', "sgd", "Our Adam equals torch.optim.Adam at every step",
    ),
    "a step along the gradient": Mutation(
        "optim", 'p.sub_(grad, alpha=group["lr"])', 'p.add_(grad, alpha=group["lr"])', "sgd",
        "A step moves the parameters against their gradient",
    ),
    "gradients that are not forgotten": Mutation(
        "optim", "p.grad = None", "pass", "sgd",
        "A step moves the parameters against their gradient",
    ),
    "weight decay of the wrong sign": Mutation(
        "optim", 'grad = grad + group["weight_decay"] * p',
        'grad = grad - group["weight_decay"] * p', "sgd",
        "For SGD, weight decay is the gradient of a penalty",
    ),
    "Welford's merge without the distance of the means": Mutation(
        "stats", "self._squares + other._squares + delta**2 * (self.count * (other.count / total))",
        "self._squares + other._squares", "variance",
        "Two summaries merged are the summary of everything",
    ),
    "Welford's merge with the means weighted equally": Mutation(
        "stats", "self._mean + delta * (other.count / total)", "self._mean + delta / 2",
        "variance", "Updated and merged in random splits, RunningStats equals",
    ),
    "the one-pass variance": Mutation(
        "stats", "squares = _deviations(x, dim) ** 2",
        "squares = x**2 - mean(x, dim, keepdim=dim is not None) ** 2", "variance",
        "Two passes over the same values keep the variance to a thousandth",
    ),
    "ddof ignored": Mutation(
        "stats", "    return count - ddof\n", "    return count\n", "variance",
        "By default torch.var divides by n − 1",
    ),
    "correlation by mixed conventions": Mutation(
        "stats", "r = (dx * dy).sum()", "r = (1 - 1 / x.numel()) * (dx * dy).sum()",
        "variance", "With one convention a variable correlates perfectly with itself",
    ),
    "validation in training mode": Mutation(
        "learner", "        self.training = False\n        self.model.eval()\n",
        "        self.training = False\n", "neural-net",
        "Training passes train with gradients, validation passes do neither",
    ),
    "gradients kept while validating": Mutation(
        "learner", "        with torch.no_grad():\n            self._all_batches(self.dls.valid)\n",
        "        self._all_batches(self.dls.valid)\n", "neural-net",
        "Training passes train with gradients, validation passes do neither",
    ),
    "metrics that count every batch alike": Mutation(
        "callbacks", "n = len(target)", "n = 1", "neural-net",
        "Metrics weighs batches by their size",
    ),
    "shuffling that separates pairs": Mutation(
        "data", "yield tuple(t[rows] for t in self.tensors)",
        "yield (self.tensors[0][rows], *(t[i : i + self.batch_size] for t in self.tensors[1:]))",
        "neural-net", "Shuffling keeps pairs together",
    ),
    "shuffling that is lost": Mutation(
        "data", "if not self.shuffle:", "if True:", "sgd", "Each pass has an order of its own",
    ),
}  # fmt: skip


@cache
def chapter_of(name):
    return next(c.notebook for c in read_chapters(Book(ROOT)) if c.name == name)


@cache
def claims_of(name: str) -> dict[str, int]:
    return claims_in(chapter_of(name))


def slice_of(mutation: Mutation) -> list[int]:
    """Return the cells that the claim needs."""
    claims = claims_of(mutation.chapter)
    found = [cell for statement, cell in claims.items() if statement.startswith(mutation.claim)]
    assert len(found) == 1, f"{mutation.claim!r} must begin one statement, but begins {len(found)}"
    return cells_for(chapter_of(mutation.chapter), found[0])


@cache
def run_unchanged(chapter: str, cells: tuple[int, ...]) -> Outcome:
    return run_cells(chapter_of(chapter), cells, ROOT / "src", environment=ENVIRONMENT)


def mutated(mutation: Mutation, folder: Path) -> Path:
    """Return a copy of the sources in which the mutation is made."""
    source = Path(shutil.copytree(ROOT / "src", folder / "src"))
    file = source / "glassbox" / f"{mutation.module}.py"
    text = file.read_text(encoding="utf-8")
    assert mutation.old in text, "the library has changed: change the mutation with it"
    file.write_text(text.replace(mutation.old, mutation.new), encoding="utf-8")
    return source


def names_a_claim(message: str, chapter: str) -> bool:
    return any(message.startswith(statement) for statement in claims_of(chapter))


@pytest.mark.parametrize("mutation", MUTATIONS.values(), ids=MUTATIONS.keys())
def test_a_claim_fails_when_the_library_is_broken(mutation, tmp_path):
    cells = slice_of(mutation)
    unchanged = run_unchanged(mutation.chapter, tuple(cells))
    assert unchanged.passed, unchanged.traceback
    source = mutated(mutation, tmp_path)
    outcome = run_cells(chapter_of(mutation.chapter), cells, source, environment=ENVIRONMENT)
    assert not outcome.passed, "no claim noticed"
    assert outcome.error == "ClaimError", outcome.traceback
    # An earlier claim of the same cells may have noticed first.
    assert names_a_claim(outcome.message, mutation.chapter)


@pytest.mark.long
@pytest.mark.parametrize("mutation", MUTATIONS.values(), ids=MUTATIONS.keys())
def test_the_whole_chapter_fails_and_names_a_claim(mutation, tmp_path):
    mutated(mutation, tmp_path)
    shutil.copytree(ROOT / "book", tmp_path / "book")
    shutil.copy(ROOT / "_config.yml", tmp_path)
    contents = f"format: jb-book\nroot: index\nchapters:\n- file: {mutation.chapter}\n"
    (tmp_path / "book/_toc.yml").write_text(contents, encoding="utf-8")
    (run,) = execute(Book(tmp_path), current_conditions(1), jobs=1, say=lambda line: None)
    assert run.failed, "no claim noticed"
    assert run.record["error"] == "ClaimError", run.record["message"]
    assert names_a_claim(run.record["message"], mutation.chapter)
