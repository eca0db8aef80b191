"""What an exercise is, read from its one source.

`Exercise`, `Mutant`, `Alternative`, `Chapter`, `read_chapter`, `stub`, `plain`, `SourceError`.

A source is a Markdown file, `solutions/<chapter>.md`. A heading of level 2 begins an exercise;
fenced blocks after it hold its particulars, its solution, hints, other correct solutions, and
mutants: wrong answers that somebody would plausibly give. Everything else is the prompt.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml
from markdown_it import MarkdownIt
from markdown_it.token import Token

__all__ = [
    "UNWRITTEN",
    "Alternative",
    "Chapter",
    "Code",
    "Exercise",
    "Mutant",
    "SourceError",
    "plain",
    "read_chapter",
    "stub",
]

UNWRITTEN = "This is yours to write."
"""What a stub raises, as a NotImplementedError."""
DIFFICULTIES = ("easy", "medium", "hard")
KINDS = ("implement", "debug", "predict", "experiment", "explain")
_BEGIN, _END, _STUB = "### BEGIN SOLUTION", "### END SOLUTION", "### STUB"
_FENCE = re.compile(r"^```+\{(?P<kind>[\w-]+)\} *(?P<argument>.*)$")
_LINE_OF_DASHES = "\n---\n"


class SourceError(ValueError):
    """A source that cannot be read; the text names the file, the line and what is wrong."""


@dataclass(frozen=True)
class Alternative:
    """Another correct solution."""

    title: str
    code: str


@dataclass(frozen=True)
class Mutant:
    """A wrong answer that somebody would plausibly give."""

    title: str
    code: str
    misconception: str
    """What whoever writes this believes."""
    says: str
    """Words of the feedback that name it."""


@dataclass(frozen=True)
class Exercise:
    """One exercise, with all that its author wrote about it."""

    name: str
    chapter: str
    title: str
    points: int
    difficulty: str
    minutes: int
    kind: str
    summary: str
    """One sentence for the chapter's page."""
    prompt: str
    solution: str
    """The code of its cell, with the lines that mark what a learner does not get."""
    hints: tuple[str, ...]
    alternatives: tuple[Alternative, ...] = ()
    mutants: tuple[Mutant, ...] = ()
    hides: tuple[str, ...] = ()
    """Modules of the library that are absent while it is graded."""
    forbids: tuple[str, ...] = ()
    """Calls that an answer should do without."""
    given: tuple[str, ...] = ()
    """Code cells that come before the one to write in."""
    book: str = ""
    """What the library calls the same thing, for a later chapter: ``glassbox.losses.sigmoid``."""
    hand: int = 0
    """Points for an answer in prose, which a person reads."""

    @property
    def stub(self) -> str:
        """What a learner begins with."""
        return stub(self.solution)


@dataclass(frozen=True)
class Code:
    """A code cell that belongs to no exercise."""

    text: str


@dataclass(frozen=True)
class Chapter:
    """The exercises of a chapter, and the cells around them, in order."""

    name: str
    title: str
    parts: tuple[Exercise | Code | str, ...]
    """Exercises, code cells, and Markdown."""

    @property
    def exercises(self) -> tuple[Exercise, ...]:
        """The exercises alone."""
        return tuple(part for part in self.parts if isinstance(part, Exercise))

    def cells(self, answer: Callable[[Exercise], str]) -> Iterator[tuple[str, str | None]]:
        """Yield each code cell, with the exercise it answers, if any.

        Parameters
        ----------
        answer : callable
            Returns what stands in the cell of an exercise.
        """
        for part in self.parts:
            if isinstance(part, Exercise):
                yield from ((given, None) for given in part.given)
                yield answer(part), part.name
            elif isinstance(part, Code):
                yield part.text, None


def stub(code: str) -> str:
    """Return the code without its solutions.

    What stands between the two marks is left out. Lines there that begin with ``### STUB`` take its
    place; without such a line, raising NotImplementedError does.

    Raises
    ------
    SourceError
        If a mark has no counterpart.

    Examples
    --------
    >>> print(stub('''def mean(x):
    ...     ### BEGIN SOLUTION
    ...     return x.sum() / len(x)
    ...     ### END SOLUTION'''))
    def mean(x):
        raise NotImplementedError("This is yours to write.")
    """
    kept: list[str] = []
    inside: list[str] | None = None
    indent = ""
    for line in code.splitlines():
        text = line.strip()
        if text == _BEGIN:
            if inside is not None:
                raise SourceError(f"{_BEGIN} stands inside another.")
            inside, indent = [], line[: len(line) - len(line.lstrip())]
        elif text == _END:
            if inside is None:
                raise SourceError(f"{_END} has no beginning.")
            given = [line for line in inside if line.lstrip().startswith(_STUB)]
            kept += [_uncommented(line) for line in given] or [
                f'{indent}raise NotImplementedError("{UNWRITTEN}")'
            ]
            inside = None
        elif inside is not None:
            inside.append(line)
        else:
            kept.append(line)
    if inside is not None:
        raise SourceError(f"{_BEGIN} has no end.")
    return "\n".join(kept)


def _uncommented(line: str) -> str:
    before, _, after = line.partition(_STUB)
    return (before + after.removeprefix(" ")).rstrip()


def plain(code: str) -> str:
    """Return a solution without the marks: what somebody would hand in."""
    return "\n".join(
        line for line in code.splitlines() if not line.strip().startswith((_BEGIN, _END, _STUB))
    )


def read_chapter(path: str | Path) -> Chapter:
    """Read the source of a chapter's exercises.

    Raises
    ------
    SourceError
        If it is not of the form, naming the line.
    """
    path = Path(path)
    lines = path.read_text(encoding="utf-8").splitlines()
    try:
        return _read(path.stem, lines)
    except SourceError as error:
        raise SourceError(f"{path.name}, {error}") from None


def _read(name: str, lines: list[str]) -> Chapter:
    title = ""
    parts: list[Exercise | Code | str] = []
    for heading, blocks in _sections(lines):
        if heading.tag == "h1":
            title = _heading_text(lines, heading)
            for block in blocks:
                if block.kind not in ("", "code-cell"):
                    raise SourceError(
                        f"line {block.line}: {{{block.kind}}} belongs to an exercise."
                    )
                parts.append(Code(block.body) if block.kind else block.body)
        else:
            parts.append(_exercise(name, _heading_text(lines, heading), blocks))
    if not title:
        raise SourceError("line 1: it should begin with a title, `# Exercises: …`.")
    return Chapter(name, title, tuple(parts))


@dataclass(frozen=True)
class _Block:
    """A fenced block, or, without a kind, the text between two."""

    line: int
    body: str
    kind: str = ""
    argument: str = ""


def _sections(lines: list[str]) -> Iterator[tuple[Token, list[_Block]]]:
    """Yield each heading of level 1 or 2, with the fences and the text between them."""
    tokens = MarkdownIt().parse("\n".join(lines))
    top = [t for t in tokens if t.level == 0 and t.map and t.type in ("heading_open", "fence")]
    headings = [t for t in top if t.type == "heading_open" and t.tag in ("h1", "h2")]
    for heading, following in zip(headings, [*headings[1:], None], strict=True):
        begin, end = _span(heading)[1], _span(following)[0] if following else len(lines)
        blocks = []
        at = begin
        for fence in (t for t in top if t.type == "fence" and begin <= _span(t)[0] < end):
            first, last = _span(fence)
            match = _FENCE.match(lines[first])
            if match is None:  # a listing, part of the text
                continue
            blocks.append(_Block(at + 1, "\n".join(lines[at:first]).strip()))
            body = "\n".join(lines[first + 1 : last - 1])
            blocks.append(_Block(first + 1, body, match["kind"], match["argument"].strip()))
            at = last
        blocks.append(_Block(at + 1, "\n".join(lines[at:end]).strip()))
        yield heading, [block for block in blocks if block.kind or block.body]


def _span(token: Token) -> tuple[int, int]:
    assert token.map is not None
    return token.map[0], token.map[1]


def _heading_text(lines: list[str], heading: Token) -> str:
    return lines[_span(heading)[0]].lstrip("#").strip()


@dataclass
class _Draft:
    """An exercise as far as its blocks were read."""

    chapter: str
    title: str
    line: int
    prompt: list[str] = field(default_factory=list)
    given: list[str] = field(default_factory=list)
    hints: list[str] = field(default_factory=list)
    alternatives: list[Alternative] = field(default_factory=list)
    mutants: list[Mutant] = field(default_factory=list)
    name: str = ""
    solution: str = ""
    facts: dict[str, Any] = field(default_factory=dict)

    def add(self, block: _Block) -> None:
        """Take one block."""
        if not block.kind:
            self.prompt.append(block.body)
        elif block.kind == "exercise":
            self.name, self.facts = block.argument, _yaml(block.body, block.line)
        elif block.kind == "code-cell":
            self.given.append(block.body)
        elif block.kind == "solution":
            self.solution = block.body
        elif block.kind == "hint":
            self.hints.append(block.body)
        elif block.kind == "alternative":
            self.alternatives.append(Alternative(block.argument, block.body))
        elif block.kind == "mutant":
            self.mutants.append(_mutant(block, self.solution))
        else:
            raise SourceError(f"line {block.line}: a block {{{block.kind}}} is not known.")

    def exercise(self) -> Exercise:
        """Return the exercise, if it is complete."""
        at, facts = f"line {self.line}: ", dict(self.facts)
        wanted = {"points": int, "difficulty": str, "minutes": int, "kind": str, "summary": str}
        for key, type_ in wanted.items():
            if not isinstance(facts.get(key), type_):
                raise SourceError(f"{at}the exercise needs {key}, {type_.__name__}.")
        for key, allowed in (("difficulty", DIFFICULTIES), ("kind", KINDS)):
            if facts[key] not in allowed:
                raise SourceError(
                    f"{at}{key} must be one of {', '.join(allowed)}, but it is {facts[key]}."
                )
        if not self.name.isidentifier() or not self.solution or not self.prompt:
            raise SourceError(f"{at}an exercise has a name, a prompt and a solution.")
        if unknown := set(facts) - {*wanted, "hides", "forbids", "book", "hand"}:
            raise SourceError(f"{at}{', '.join(sorted(unknown))} is no particular of an exercise.")
        for key in ("hides", "forbids"):
            facts[key] = tuple(facts.get(key, ()))
        return Exercise(
            self.name, self.chapter, self.title, prompt="\n\n".join(self.prompt),
            solution=self.solution, hints=tuple(self.hints),
            alternatives=tuple(self.alternatives), mutants=tuple(self.mutants),
            given=tuple(self.given), **facts,
        )  # fmt: skip


def _exercise(chapter: str, title: str, blocks: list[_Block]) -> Exercise:
    draft = _Draft(chapter, title, blocks[0].line if blocks else 1)
    for block in blocks:
        draft.add(block)
    return draft.exercise()


def _mutant(block: _Block, solution: str) -> Mutant:
    """Read a mutant: whole code after a line of dashes, or a replacement in the solution."""
    head, _, code = block.body.partition(_LINE_OF_DASHES)
    facts = _yaml(head, block.line)
    at = f"line {block.line}: the mutant {block.argument!r}"
    if not code:
        old, new = facts.get("old"), facts.get("new")
        if not isinstance(old, str) or not isinstance(new, str) or old not in solution:
            raise SourceError(
                f"{at} needs code after a line of dashes, or `old`, which stands in the solution, "
                "and `new`."
            )
        code = plain(solution.replace(old, new))
    try:
        return Mutant(block.argument, code, facts["misconception"], facts["says"])
    except KeyError as error:
        raise SourceError(f"{at} needs {error}.") from None


def _yaml(text: str, line: int) -> dict[str, Any]:
    try:
        found = yaml.safe_load(text) or {}
    except yaml.YAMLError as error:
        raise SourceError(f"line {line}: no YAML: {error}") from None
    if not isinstance(found, dict):
        raise SourceError(f"line {line}: YAML of names and values is needed.")
    return found
