"""Claims and inserted numbers: how a chapter states a result without typing it.

`claim` checks a statement while the chapter runs and shows it in the page as a tick that opens;
`glue` stores a value that the prose then inserts with ``{glue:text}`name:.3f```.

Both only need IPython, so a chapter also runs on a machine that has nothing but the library's
dependencies; in plain Python, without a notebook, a true claim and `glue` are silent.

The HTML of a claim uses these classes (styled in ``book/_static/glassbox.css``):

``gb-claim``            the ``<details>``; together with ``gb-claim-passed`` or ``gb-claim-failed``
``gb-claim-summary``    the ``<summary>``: the line that is always visible
``gb-claim-mark``       the tick (or cross) in it
``gb-claim-statement``  the statement in it
``gb-claim-body``       what opens: the table, then one sentence on agreement, then the source
``gb-claim-table``      the values: what, measured, reported
``gb-claim-agreement``  the sentence; with ``gb-agrees`` or ``gb-differs``
``gb-claim-source``     where the reported figure comes from, and the claim's identifier
"""

from __future__ import annotations

import math
import re
import sys
from collections.abc import Mapping, Sequence
from decimal import Decimal
from html import escape
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np

if TYPE_CHECKING:
    import torch

__all__ = ["CLAIM_MIME", "DEFAULT_TOLERANCE", "ClaimError", "claim", "format_value", "glue"]

CLAIM_MIME = "application/vnd.glassbox.claim+json"
"""Under this type a notebook's output carries the claim as data."""

DEFAULT_TOLERANCE = 0.02
"""A measured value within 2 % of the reported one agrees with it, unless a claim says otherwise."""

GLUE_PREFIX = "application/papermill.record/"
"""In front of a MIME type, this makes an output that is stored and not shown (myst-nb reads it)."""

LESSON_ID = re.compile(r"L\d+-[A-Za-z0-9]+(?:\b|$)")
"""The identifiers of the lessons' results, for example ``L10-var``."""

Scalar: TypeAlias = "bool | int | float | str | np.generic | torch.Tensor"
Value: TypeAlias = "Scalar | Sequence[Any] | Mapping[str, Any]"
Json: TypeAlias = "bool | int | float | str | list[Json] | dict[str, Json]"

_ID = re.compile(r"[A-Za-z][A-Za-z0-9._-]*")
_GLUE_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_.-]*")
_MAX_VALUES = 100  # A claim shows a small table; more than this belongs in a plot.
_anchors: set[str] = set()  # Given out by this process: an anchor is unique in its page.


class ClaimError(AssertionError):
    """A statement of the book is false on this machine."""


def claim(
    statement: str,
    condition: bool | np.bool_ | torch.Tensor,
    *,
    measured: Value | None = None,
    reported: Value | None = None,
    source: str | None = None,
    id: str | None = None,
    tolerance: float | None = None,
) -> None:
    """Check a statement about a result; the chapter stops when it is false.

    A true claim displays a tick that opens to show the values. When both ``measured`` and
    ``reported`` are numbers (or lists of the same length, or mappings that share names), the
    page also says whether they agree. Disagreement does not fail the build: ``condition`` alone
    decides that. A lesson's figure is one run, and the page says by how much ours differs.

    Parameters
    ----------
    statement
        One sentence that a reader can check, for example "Both forms give the same variance".
    condition
        What must hold: a bool, a NumPy bool or a bool tensor with one value and no dimension.
    measured
        What this run computed: a number, text, or a (nested) list, tuple or mapping of them.
        Tensors may live on any device. A mapping with a ``median`` is compared by its median when
        ``reported`` is one number.
    reported
        What the lesson (or a paper) published, in the same form.
    source
        Where ``reported`` was published, for example "2019 lesson 10". Needed with ``reported``
        unless ``id`` is a lesson's identifier.
    id
        A short name for the ledger, for example ``"L10-var"``; made of the statement when missing.
    tolerance
        The largest relative difference that counts as agreement (where the reported figure is 0:
        the largest absolute one). Default `DEFAULT_TOLERANCE`.

    Raises
    ------
    ClaimError
        When ``condition`` is false. The message has the statement and the values.
    TypeError, ValueError
        When an argument cannot be what it should be; in particular a ``condition`` that is not a
        bool, because a claim must be able to fail.

    Examples
    --------
    >>> claim("Two and two make four", 2 + 2 == 4, measured=2 + 2)
    >>> claim("Two and two make five", 2 + 2 == 5, measured=2 + 2)
    Traceback (most recent call last):
    ...
    press.claims.ClaimError: Two and two make five: this does not hold here. Measured: 4.
    """
    record = _record(statement, _truth(condition), measured, reported, source, id, tolerance)
    _display({CLAIM_MIME: record, "text/html": _html(record), "text/plain": _text(record)}, {})
    if not record["passed"]:
        raise ClaimError(_failure(record))


def glue(name: str, value: Scalar) -> None:
    """Store a value under a name, for the prose to insert; nothing is shown here.

    The prose inserts it with ``{glue:text}`name``` or, formatted, ``{glue:text}`name:.3f```,
    ``{glue:text}`name:.1%```, ``{glue:text}`name:,```.

    Parameters
    ----------
    name
        Letters, digits, ``_``, ``.`` and ``-``; unique in the chapter.
    value
        A number, text, or a tensor or array with one value and no dimension (on any device).

    Raises
    ------
    TypeError, ValueError
        When the name or the value cannot be inserted.
    """
    if not isinstance(name, str) or not _GLUE_NAME.fullmatch(name):
        raise ValueError(
            f"glue: name must be letters, digits, '_', '.' or '-', "
            f"and start with a letter or '_', not {name!r}."
        )
    plain = _plain(value, f"glue({name!r}): value")
    if isinstance(plain, list | dict):
        raise TypeError(
            f"glue({name!r}): value must be one number or text, not {type(value).__name__}; "
            "glue the values one by one."
        )
    metadata = {"scrapbook": {"name": name, "mime_prefix": GLUE_PREFIX}}
    _display({f"{GLUE_PREFIX}text/plain": repr(plain)}, metadata)


def format_value(value: Json, digits: int = 4) -> str:
    """Write a value as the page shows it: numbers with 4 significant digits.

    Whole numbers and the whole part of a number are never rounded away: 12345.6 is "12,346".

    Parameters
    ----------
    value
        A plain value: a bool, number, text, or a list or mapping of them.
    digits
        Significant digits of a number that is not whole.
    """
    if isinstance(value, dict):
        return ", ".join(f"{name} {format_value(item, digits)}" for name, item in value.items())
    if isinstance(value, list):
        return ", ".join(format_value(item, digits) for item in value)
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str):
        return value
    if isinstance(value, int):
        return f"{value:,}"
    if value == 0 or not math.isfinite(value):
        return f"{value:g}"
    exponent = int(f"{value:.{digits - 1}e}".partition("e")[2])  # of the rounded value
    if -5 < exponent < 7:
        text = f"{value:,.{max(0, digits - 1 - exponent)}f}"
        return text.rstrip("0").rstrip(".") if "." in text else text
    return f"{value:.{digits - 1}e}"


def _truth(condition: object) -> bool:
    """Return ``condition`` as a bool; anything that is not one is an error."""
    if isinstance(condition, bool | np.bool_):
        return bool(condition)
    torch = sys.modules.get("torch")  # A tensor cannot exist before torch is imported.
    if torch is not None and isinstance(condition, torch.Tensor):
        if condition.dtype == torch.bool and condition.dim() == 0:
            return bool(condition.item())
        kind = f"a tensor of {condition.dtype} with shape {tuple(condition.shape)}"
    elif isinstance(condition, np.ndarray):
        if condition.dtype == np.bool_ and condition.ndim == 0:
            return bool(condition)
        kind = f"an array of {condition.dtype} with shape {condition.shape}"
    else:
        kind = f"{condition!r} ({type(condition).__name__})"
    raise TypeError(
        f"claim: condition must be a bool, a NumPy bool or a bool tensor of shape (), not {kind}: "
        "a claim must be able to fail."
    )


def _plain(value: Any, what: str) -> Json:
    """Return ``value`` made of Python's own types, or raise a TypeError that names ``what``."""
    torch = sys.modules.get("torch")
    if torch is not None and isinstance(value, torch.Tensor):
        if value.numel() > _MAX_VALUES:
            raise ValueError(f"{what} has {value.numel()} values; at most {_MAX_VALUES} are shown.")
        value = value.detach().tolist()
    elif isinstance(value, np.ndarray):
        if value.size > _MAX_VALUES:
            raise ValueError(f"{what} has {value.size} values; at most {_MAX_VALUES} are shown.")
        value = value.tolist()
    elif isinstance(value, np.generic):
        value = value.item()
    if isinstance(value, bool | int | float | str):
        return value
    if isinstance(value, Mapping):
        return {str(name): _plain(item, f"{what}[{name!r}]") for name, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item, f"{what}[{i}]") for i, item in enumerate(value)]
    raise TypeError(
        f"{what} must be a number, a tensor, text, or a list, tuple or mapping of them, "
        f"not {type(value).__name__}."
    )


def _json(value: Json) -> Json:
    """Return ``value`` with NaN and the infinities as text: JSON has no such numbers."""
    if isinstance(value, dict):
        return {name: _json(item) for name, item in value.items()}
    if isinstance(value, list):
        return [_json(item) for item in value]
    if isinstance(value, float) and not math.isfinite(value):
        return {math.inf: "Infinity", -math.inf: "-Infinity"}.get(value, "NaN")
    return value


def _record(
    statement: str,
    passed: bool,
    measured: Value | None,
    reported: Value | None,
    source: str | None,
    id: str | None,
    tolerance: float | None,
) -> dict[str, Any]:
    """Check the arguments of `claim` and return the claim as JSON-safe data."""
    if not isinstance(statement, str):
        raise TypeError(f"claim: statement must be text, not {type(statement).__name__}.")
    statement = " ".join(statement.split())
    if not statement:
        raise ValueError("claim: statement is empty; it must be a sentence that can be checked.")
    if source is not None and (not isinstance(source, str) or not source.strip()):
        raise ValueError(f"claim: source must be text such as '2019 lesson 10', not {source!r}.")
    if id is not None and (not isinstance(id, str) or not _ID.fullmatch(id)):
        raise ValueError(
            f"claim: id must be letters, digits, '.', '_' or '-' after a letter, not {id!r}."
        )
    if tolerance is None:
        tolerance = DEFAULT_TOLERANCE
    elif isinstance(tolerance, bool) or not isinstance(tolerance, int | float):
        raise TypeError(f"claim: tolerance must be a number, not {type(tolerance).__name__}.")
    elif not 0 <= tolerance < math.inf:
        raise ValueError(f"claim: tolerance must be 0 or more and finite, not {tolerance}.")
    ours = None if measured is None else _plain(measured, "claim: measured")
    theirs = None if reported is None else _plain(reported, "claim: reported")
    if theirs is not None and source is None and not (id and LESSON_ID.match(id)):
        raise ValueError(
            "claim: a reported figure needs its source, or the lesson's identifier as id."
        )
    name = id or _slug(statement)
    lesson = LESSON_ID.match(name) or (source and "lesson" in source.lower())
    who = "The lesson" if lesson else "The source"
    return {
        "id": name,
        "anchor": _anchor(name),
        "statement": statement,
        "passed": passed,
        "measured": None if ours is None else _json(ours),
        "reported": None if theirs is None else _json(theirs),
        "source": source,
        "rows": _rows(ours, theirs),
        "agreement": _agreement(ours, theirs, float(tolerance), who),
    }


def _slug(statement: str) -> str:
    """Return a short identifier made of the statement's words."""
    words = re.findall(r"[a-z0-9]+", statement.lower())
    slug = "-".join(words)[:48].strip("-")
    return slug if slug and slug[0].isalpha() else f"c-{slug}"


def _anchor(name: str) -> str:
    """Return a new anchor for the claim in its page: several claims may share one identifier."""
    base = anchor = f"claim-{name}".lower()
    nth = 1
    while anchor in _anchors:
        nth += 1
        anchor = f"{base}-{nth}"
    _anchors.add(anchor)
    return anchor


def _number(value: Json | None) -> float | None:
    """Return ``value`` when it is a number (a bool is not), else None."""
    if isinstance(value, int | float) and not isinstance(value, bool):
        return float(value)
    return None


def _pairs(ours: Json | None, theirs: Json | None) -> list[tuple[str, float, float]]:
    """Return what can be compared: (name, measured, reported); the name is "" for one number."""
    if isinstance(ours, dict) and not isinstance(theirs, dict) and "median" in ours:
        return [("median", a, b) for _, a, b in _pairs(ours["median"], theirs)]
    if isinstance(ours, dict) and isinstance(theirs, dict):
        named = [(name, ours[name], theirs[name]) for name in ours if name in theirs]
    elif isinstance(ours, list) and isinstance(theirs, list):
        if len(ours) != len(theirs):
            return []
        pairs = zip(ours, theirs, strict=True)
        named = [(f"value {i + 1}", a, b) for i, (a, b) in enumerate(pairs)]
    else:
        a, b = _number(ours), _number(theirs)
        return [] if a is None or b is None else [("", a, b)]
    found = []
    for name, mine, yours in named:
        for inner, a, b in _pairs(mine, yours):
            found.append((f"{name} {inner}".strip(), a, b))
    return found


def _agrees(measured: float, reported: float, tolerance: float) -> bool:
    """Return whether the two agree; two NaNs, or two equal infinities, do."""
    if math.isnan(measured) or math.isnan(reported):
        return math.isnan(measured) and math.isnan(reported)
    if math.isinf(measured) or math.isinf(reported):
        return measured == reported
    # The last term lets a difference of exactly the tolerance pass, whatever the rounding does.
    allowed = tolerance * (abs(reported) or 1.0) + 1e-12 * abs(reported)
    return abs(measured - reported) <= allowed


def _difference(measured: float, reported: float) -> str:
    """Return in words how far the measured value is from the reported one; "" if not a number."""
    if measured == reported or (math.isnan(measured) and math.isnan(reported)):
        return "the same"
    if not (math.isfinite(measured) and math.isfinite(reported)):
        return ""
    way = "higher" if measured > reported else "lower"
    if reported == 0 or measured * reported < 0:
        return f"{format_value(abs(measured - reported), 2)} {way}"
    ratio = measured / reported
    if ratio >= 2 or ratio <= 0.1:
        return f"{format_value(ratio, 2)} times the reported figure"
    return f"{format_value(100 * abs(ratio - 1), 2)} % {way}"


def _agreement(
    ours: Json | None, theirs: Json | None, tolerance: float, who: str
) -> dict[str, Any] | None:
    """Compare the values: ``agrees``, ``tolerance`` and honest sentences, or None.

    ``who`` is the sentence's subject: "The lesson" or "The source".
    """
    pairs = _pairs(ours, theirs)
    if not pairs:
        return None
    within = f"{format_value(100 * tolerance, 2)} %"
    off = [pair for pair in pairs if not _agrees(pair[1], pair[2], tolerance)]
    if not off and len(pairs) > 1:
        text = f"All {len(pairs)} values agree with the reported ones within {within}."
        return {"agrees": True, "tolerance": tolerance, "text": text}
    sentences = []
    for name, measured, reported in off or pairs:
        digits = _digits(reported)
        of = f" for {name}" if name and name != "median" else ""
        this = "this run's median is" if name == "median" else "this run measured"
        gap = _difference(measured, reported)
        if gap == "the same":
            verdict = "the same"
        elif not off:
            verdict = f"which agrees within {within}"
        else:
            verdict = f"{gap or 'which differs'}: outside the tolerance of {within}"
        sentences.append(
            f"{who} reported {format_value(reported, digits)}{of}; "
            f"{this} {format_value(measured, digits)}, {verdict}."
        )
    rest = len(pairs) - len(off)
    if off and rest:
        agree = "value agrees" if rest == 1 else f"{rest} values agree"
        sentences.append(f"The other {agree} within {within}.")
    return {"agrees": not off, "tolerance": tolerance, "text": " ".join(sentences)}


def _digits(*values: float) -> int:
    """Return how many digits show these figures as they were published: 47.1875 has six."""
    shown = [
        len(Decimal(repr(value)).normalize().as_tuple().digits)
        for value in values
        if math.isfinite(value)
    ]
    return min(max([4, *shown]), 8)


def _rows(ours: Json | None, theirs: Json | None) -> list[list[str]]:
    """Return the table of a claim: [name, measured, reported], all as text."""
    if ours is None and theirs is None:
        return []
    if isinstance(ours, dict) or isinstance(theirs, dict):
        left = ours if isinstance(ours, dict) else {} if ours is None else {"": ours}
        right = theirs if isinstance(theirs, dict) else {} if theirs is None else {"": theirs}
        if set(right) == {""} and "median" in left:
            right = {"median": right[""]}
        rows = []
        for name in dict.fromkeys([*left, *right]):
            inner = _rows(left.get(name), right.get(name))
            rows += [[f"{name} {row[0]}".strip(), *row[1:]] for row in inner]
        return rows
    number = _number(theirs)
    digits = 4 if number is None else _digits(number)
    if isinstance(ours, list) and isinstance(theirs, list) and len(ours) == len(theirs):
        return [
            [f"value {i + 1} {row[0]}".strip(), *row[1:]]
            for i, (a, b) in enumerate(zip(ours, theirs, strict=True))
            for row in _rows(a, b)
        ]
    return [
        [
            "",
            "" if ours is None else format_value(ours, digits),
            "" if theirs is None else format_value(theirs, max(digits, 8)),
        ]
    ]


def _html(record: dict[str, Any]) -> str:
    """Return the claim as a discreet ``<details>`` element."""
    state, mark = ("passed", "✓") if record["passed"] else ("failed", "✗")
    parts = [
        f'<details class="gb-claim gb-claim-{state}" id="{escape(record["anchor"])}">'
        f'<summary class="gb-claim-summary"><span class="gb-claim-mark" role="img" '
        f'aria-label="checked: {"true" if record["passed"] else "false"}">{mark}</span> '
        f'<span class="gb-claim-statement">{escape(record["statement"])}</span></summary>'
        '<div class="gb-claim-body">'
    ]
    rows: list[list[str]] = record["rows"]
    if rows:
        # A column that nothing stands in is left out: most claims report no lesson's figure.
        heads = ["value", "measured here", "reported"]
        used = [i for i in range(3) if any(row[i] for row in rows)]
        cells = "".join(f'<th scope="col">{heads[i]}</th>' for i in used)
        parts.append(f'<table class="gb-claim-table"><thead><tr>{cells}</tr></thead><tbody>')
        for row in rows:
            cells = "".join(
                f'<th scope="row">{escape(row[i])}</th>' if i == 0 else f"<td>{escape(row[i])}</td>"
                for i in used
            )
            parts.append(f"<tr>{cells}</tr>")
        parts.append("</tbody></table>")
    agreement = record["agreement"]
    if agreement:
        kind = "gb-agrees" if agreement["agrees"] else "gb-differs"
        text = escape(agreement["text"])
        parts.append(f'<p class="gb-claim-agreement {kind}">{text}</p>')
    origin = [record["source"]] if record["source"] else []
    if LESSON_ID.match(record["id"]):
        origin.append(record["id"])
    if origin:
        parts.append(f'<p class="gb-claim-source">Source: {escape(", ".join(origin))}</p>')
    if len(parts) == 1:
        parts.append('<p class="gb-claim-agreement">The build checked this and it holds.</p>')
    parts.append("</div></details>")
    return "".join(parts)


def _text(record: dict[str, Any]) -> str:
    """Return the claim as one line, for a terminal."""
    mark = "✓" if record["passed"] else "✗"
    values = _values(record)
    return f"{mark} {record['statement']}" + (f" ({values})" if values else "")


def _values(record: dict[str, Any]) -> str:
    """Return the claim's values as a phrase: "measured 4, reported 4"."""
    rows: list[list[str]] = record["rows"]
    phrases = []
    for title, column in (("measured", 1), ("reported", 2)):
        shown = [f"{row[0]} {row[column]}".strip() for row in rows if row[column]]
        if shown:
            phrases.append(f"{title} {', '.join(shown)}")
    return "; ".join(phrases)


def _failure(record: dict[str, Any]) -> str:
    """Return the message of a false claim: the statement, the values and the source."""
    values = _values(record)
    said = f" {values[0].upper()}{values[1:]}." if values else ""
    said = said.replace("Measured ", "Measured: ", 1)
    source = f" Source: {record['source']}." if record["source"] else ""
    name = f" [{record['id']}]"
    return f"{record['statement'].rstrip('.')}: this does not hold here.{said}{source}{name}"


def _display(data: dict[str, Any], metadata: dict[str, Any]) -> None:
    """Publish an output where there is a notebook or an IPython shell, else do nothing."""
    from IPython.core.interactiveshell import InteractiveShell
    from IPython.display import display

    if InteractiveShell.initialized():
        display(data, raw=True, metadata=metadata)
