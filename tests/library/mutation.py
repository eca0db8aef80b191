"""How many mutants of the library's core its unit tests kill: `python tests/library/mutation.py`.

mutmut changes one operator, number, name or argument at a time; a test must fail for each. It works
on a copy in a temporary folder. Prints the score of each module and its survivors, and fails where
one is below its bar. Modules can be named: `python tests/library/mutation.py norm hooks`.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections import Counter
from pathlib import Path

ROOT = Path(__file__).parents[2]
BARS = {
    **dict.fromkeys(("stats", "losses", "optim", "learner"), 0.85),
    **dict.fromkeys(("training", "checkpoints", "hooks", "norm", "init"), 0.80),
    **dict.fromkeys(("checks", "interpret", "heatmaps"), 0.80),
}

CONFIG = """
[tool.mutmut]
source_paths = {sources}
pytest_add_cli_args_test_selection = {tests}
also_copy = ["src", "tests"]
"""


def run(modules: list[str], folder: Path) -> dict[str, Counter[str]]:
    """Return how many mutants of each module ended in which way."""
    for name in ("src/glassbox", "tests"):
        shutil.copytree(ROOT / name, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
    config = CONFIG.format(
        sources=[f"src/glassbox/{module}.py" for module in modules],
        tests=[f"tests/library/test_{module}.py" for module in modules],
    )
    (folder / "pyproject.toml").write_text((ROOT / "pyproject.toml").read_text() + config)
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    environment["PATH"] = f"{Path(sys.executable).parent}:{environment['PATH']}"
    jobs = str(len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else 2)
    with (folder / "log").open("w") as log:
        code = subprocess.call(
            ["mutmut", "run", "--max-children", jobs], cwd=folder, env=environment, stdout=log,
            stderr=log,
        )  # fmt: skip
    if code:
        sys.exit(f"mutmut failed:\n{(folder / 'log').read_text()[-3000:]}")
    report = subprocess.run(
        ["mutmut", "results", "--all", "true"], cwd=folder, env=environment, capture_output=True,
        text=True, check=True,
    ).stdout  # fmt: skip
    counts: dict[str, Counter[str]] = {module: Counter() for module in modules}
    for module, mutant, verdict in re.findall(r"glassbox\.(\w+)\.(\S+): (.+)", report):
        counts[module][verdict] += 1
        if verdict not in ("killed", "timeout"):
            print(f"{verdict}: glassbox.{module}.{mutant}")
    return counts


def main(modules: list[str]) -> int:
    """Print the scores; return 1 when one of the modules is below its bar."""
    if unknown := set(modules) - set(BARS):
        sys.exit(f"The modules must be among {list(BARS)}, but there is {sorted(unknown)}.")
    with tempfile.TemporaryDirectory() as folder:
        counts = run(modules or list(BARS), Path(folder))
    below = False
    for module, verdicts in counts.items():
        killed, total = verdicts["killed"] + verdicts["timeout"], sum(verdicts.values())
        score = killed / total if total else 0.0
        below |= score < BARS[module]
        print(f"{module}: {killed} of {total} mutants killed ({score:.1%})")
    total = sum(sum(v.values()) for v in counts.values())
    killed = sum(v["killed"] + v["timeout"] for v in counts.values())
    print(f"all: {killed} of {total} mutants killed ({killed / max(total, 1):.1%})")
    if below:
        bars = ", ".join(f"{module} {bar:.0%}" for module, bar in BARS.items())
        print(f"A module is below its bar ({bars}): write the tests that its survivors ask for.")
    return int(below)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
