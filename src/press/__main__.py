"""The command line of the press: ``python -m press build``, ``serve`` and ``bench``."""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path

# jsonschema, which nbformat imports, would build a grammar of internationalised addresses on every
# start, for seconds, and no notebook holds such an address. It does without when it is not there.
sys.modules.setdefault("rfc3987_syntax", None)  # type: ignore[arg-type]

from press.execution import PROFILES, Book  # noqa: E402


def main(arguments: list[str] | None = None) -> int:
    """Run one command; return its exit code."""
    parser = argparse.ArgumentParser(prog="python -m press", description="Make the book.")
    commands = parser.add_subparsers(dest="command", required=True)
    common = argparse.ArgumentParser(add_help=False)
    common.add_argument("--root", type=Path, default=default_root(), help="the checkout")
    common.add_argument("--profile", choices=PROFILES, help="which data: sample or full")
    common.add_argument("--data", type=Path, help="the folder of the full profile's data")
    common.add_argument("--device", help="compute on cuda, mps or cpu")
    common.add_argument("--jobs", type=positive, help="how many chapters execute at a time")
    commands.add_parser("build", parents=[common], help="execute what changed, make the site")
    commands.add_parser("bench", parents=[common], help="measure the figures of the project")
    serve = commands.add_parser(
        "serve", parents=[common], help="build, serve the site, rebuild what is saved"
    )
    serve.add_argument("--port", type=int, default=8000)
    options = parser.parse_args(arguments)
    for name in ("profile", "data", "device"):
        if (value := getattr(options, name)) is not None:
            os.environ[f"GLASSBOX_{name.upper()}"] = str(
                value.absolute() if isinstance(value, Path) else value
            )
    book = Book(options.root.absolute())
    try:
        jobs = options.jobs or jobs_from_environment()
        if options.command == "serve":
            from press.serve import serve_book

            return serve_book(book, jobs, port=options.port)
        if options.command == "bench":
            from press.bench import bench

            return bench(book)
        from press.build import build

        return build(book, jobs)
    except (FileNotFoundError, ValueError) as error:
        print(error, file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("\nInterrupted. Every chapter that had finished is kept.", file=sys.stderr)
        return 130


def default_root() -> Path:
    """Return the checkout that this package lies in, or the working directory."""
    checkout = Path(__file__).resolve().parents[2]
    return checkout if (checkout / "book").is_dir() else Path.cwd()


def jobs_from_environment() -> int | None:
    """Return what the variable ``JOBS`` says, which ``make JOBS=2`` sets; None without it."""
    text = os.environ.get("JOBS")
    try:
        return positive(text) if text else None
    except argparse.ArgumentTypeError as error:
        raise ValueError(f"JOBS {error}.") from None


def positive(text: str) -> int:
    """Read a count from the command line."""
    value = int(text) if text.isdigit() else 0
    if value < 1:
        raise argparse.ArgumentTypeError(f"is {text!r}; it can be 1, 2, 3 and so on")
    return value


if __name__ == "__main__":
    sys.exit(main())
