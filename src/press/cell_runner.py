"""Run cells one after the other, as a notebook would: ``cell_runner.py CELLS.json ANSWER.json``.

Started by `press.slicing.run_cells` as a file, so that it needs no package of this project: the
cells may import a changed copy of all of them.
"""

import contextlib
import json
import sys
import traceback
from pathlib import Path

from IPython.core.interactiveshell import InteractiveShell


def main(cells_file: str, answer_file: str) -> None:
    """Run the cells of one file and write to the other how it went."""
    shell = InteractiveShell.instance()
    answer = {"passed": True, "cell": None, "error": "", "message": "", "traceback": ""}
    for cell in json.loads(Path(cells_file).read_text(encoding="utf-8")):
        with contextlib.redirect_stdout(sys.stderr):
            result = shell.run_cell(cell["source"], store_history=False, silent=False)
        error = result.error_before_exec or result.error_in_exec
        if error is not None and not cell["may_fail"]:
            answer = {
                "passed": False,
                "cell": cell["index"],
                "error": type(error).__name__,
                "message": str(error),
                "traceback": "".join(traceback.format_exception(error)),
            }
            break
    Path(answer_file).write_text(json.dumps(answer), encoding="utf-8")


if __name__ == "__main__":
    main(*sys.argv[1:])
