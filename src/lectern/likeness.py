"""Which submissions are so alike that an instructor should look.

`Pair`, `alike`.
"""

from __future__ import annotations

import io
import keyword
import tokenize
from collections.abc import Mapping
from dataclasses import dataclass

__all__ = ["Pair", "alike"]

_LENGTH = 5  # tokens of a phrase
_LEAST_TOKENS = 60  # of both answers; shorter ones are alike anyway
_SKIPPED = {
    *(tokenize.COMMENT, tokenize.NL, tokenize.NEWLINE, tokenize.INDENT, tokenize.DEDENT),
    *(tokenize.ENDMARKER, tokenize.ENCODING),
}


@dataclass(frozen=True)
class Pair:
    """Two submissions, and how alike they are: 1 for the same but for names and layout."""

    first: str
    second: str
    likeness: float


def alike(codes: Mapping[str, str], least: float = 0.9, most: int = 20) -> list[Pair]:
    """Return the pairs of submissions that are most alike.

    Names, numbers and text do not count, nor comments and layout. Phrases of five tokens are
    compared, those less that many have (their TF-IDF); the cosine is the likeness.

    Parameters
    ----------
    codes : mapping of str to str
        Each student's own code.
    least : float
        How alike they must be to be told.
    most : int
        Pairs to return.
    """
    from sklearn.feature_extraction.text import TfidfVectorizer

    words = {name: _words(code) for name, code in codes.items()}
    names = [name for name, found in words.items() if len(found) >= _LEAST_TOKENS]
    if len(names) < 2:
        return []
    vectorizer = TfidfVectorizer(
        analyzer=_phrases, sublinear_tf=True, min_df=1, token_pattern=None, lowercase=False
    )
    vectors = vectorizer.fit_transform([words[name] for name in names])
    likeness = (vectors @ vectors.T).tocoo()
    pairs = [
        Pair(names[i], names[j], float(value))
        for i, j, value in zip(likeness.row, likeness.col, likeness.data, strict=True)
        if i < j and value >= least
    ]
    return sorted(pairs, key=lambda pair: (-pair.likeness, pair.first, pair.second))[:most]


def _words(code: str) -> list[str]:
    """Return the tokens of a code, names and constants made alike."""
    found = []
    try:
        for token in tokenize.generate_tokens(io.StringIO(code).readline):
            if token.type in _SKIPPED:
                continue
            if token.type == tokenize.NAME and not keyword.iskeyword(token.string):
                found.append("name")
            elif token.type in (tokenize.NUMBER, tokenize.STRING):
                found.append("constant")
            else:
                found.append(token.string)
    except (tokenize.TokenError, SyntaxError):  # what comes before the error counts
        pass
    return found


def _phrases(words: list[str]) -> list[str]:
    return [" ".join(words[i : i + _LENGTH]) for i in range(len(words) - _LENGTH + 1)]
