"""Finds results that were typed into a chapter's prose instead of being inserted by `glue`.

A number in prose is either part of a *definition* ("a 28×28 image", "a learning rate of 0.1",
"chapter 3") or it states a *result*: something that a run, a clock or a comparison brought out
("reaches 97 percent", "twice as fast"). Only the second kind must come from the run. No list of
sentences can tell them apart, but grammar nearly can, and that is what the rule looks at:

- what is attached to the number: a percent sign, a unit of time, "times" and a comparative, the
  noun that it counts, the setting whose value it is;
- what the clause is about: a measured quantity (accuracy, loss, speed), or a verb that tells how
  something came out (reached, fell to, converged).

Markdown is parsed, so code, math, citations, front matter and inserted values are never looked
at; headings, lists, tables, admonitions, captions and alternative texts are. A figure that
somebody else published is quoted with the role ``{reported}`L10-bn .9707``` (see `press.sphinx`).
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from html import unescape
from typing import TYPE_CHECKING, Any

import yaml
from markdown_it.renderer import RendererHTML
from myst_parser.config.main import MdParserConfig
from myst_parser.parsers.mdit import create_md_parser

if TYPE_CHECKING:
    from markdown_it import MarkdownIt
    from markdown_it.token import Token

__all__ = ["Finding", "find_typed_results"]


@dataclass(frozen=True)
class Finding:
    """A typed result.

    Attributes
    ----------
    line
        Its line in the file, counted from 1.
    text
        The sentence around it.
    reason
        The words that state the result, and what kind of result they state.
    """

    line: int
    text: str
    reason: str


def find_typed_results(markdown: str) -> list[Finding]:
    """Find the numbers in a chapter's prose that state a result and are not inserted.

    Parameters
    ----------
    markdown
        The text of a MyST file, with or without front matter.

    Returns
    -------
    list of Finding
        In the order of the file; at most one for a sentence.

    Raises
    ------
    ValueError
        When the options of a cell or a directive are not valid YAML.
    """
    found = []
    for line, text in _passages(markdown, 0):
        for start, sentence in _sentences(text):
            problem = _judge(sentence)
            if problem is not None:
                offset, reason = problem
                at = line + text.count("\n", 0, start + offset)
                found.append(Finding(at, " ".join(sentence.split()), reason))
    return sorted(found, key=lambda finding: finding.line)


# --------------------------------------------------------------------------------------------
# From Markdown to passages of plain text

_INSERTED = "◆"  # Stands for an inserted value, a quoted figure, a formula or a piece of code.
_EXTENSIONS = {
    "amsmath", "attrs_block", "attrs_inline", "colon_fence", "deflist", "dollarmath",
    "substitution", "tasklist",
}  # fmt: skip
_SILENT = re.compile(  # Directives whose content is not prose.
    r"code|code-block|sourcecode|math|raw|include|literalinclude|toctree|bibliography|glue.*|"
    r"press-.*|auto.*|mermaid|highlight|eval-rst|parsed-literal|iframe|tableofcontents"
)
_TEXT_ROLES = {"term", "doc", "ref", "numref", "abbr", "download", "any", "sub", "sup", "guilabel"}
_OPTION = re.compile(r"\s*:([\w-]+):\s*(.*)")
_SPELT_OUT = re.compile(r"(alt|caption|title)$")
_BARE = re.compile(r"\s*[-−+]?[\d.,]+\s*(?:%|percent|×|x|s|ms)?\s*")


@cache
def _parser() -> MarkdownIt:
    """Return the parser that the book is read with."""
    return create_md_parser(MdParserConfig(enable_extensions=_EXTENSIONS), RendererHTML)


def _passages(markdown: str, offset: int) -> Iterator[tuple[int, str]]:
    """Yield (line, text) of each passage: a paragraph, heading, cell, caption or the like."""
    tokens = _parser().parse(markdown)
    heads: list[str] = []
    row: list[str] = []
    in_head, line = False, offset + 1
    for i, token in enumerate(tokens):
        if token.map is not None:
            line = token.map[0] + offset + 1
        if token.type == "inline":
            kind = tokens[i - 1].type
            text = _flatten(token.children or [])
            if kind == "th_open":
                heads.append(text)
            elif kind == "td_open":
                # What a cell's number means stands at the top of its column or the row's start.
                column = heads[len(row)] if len(row) < len(heads) else ""
                about = [*row[:1], column]
                row.append(text)
                text = ": ".join([*(part.strip() for part in about if part.strip()), text])
            if not (kind == "th_open" and not text.strip()):
                yield line, text
            for child in token.children or []:
                if child.type == "image":
                    yield line, _flatten(child.children or [])
                    yield line, str(child.attrs.get("title", ""))
        elif token.type == "table_open":
            heads = []
        elif token.type == "tr_open":
            row = []
        elif token.type == "html_block":
            yield line, unescape(re.sub(r"<[^>]*>", " ", token.content))
        elif token.type in ("fence", "colon_fence"):
            yield from _directive(token, line)
        in_head = in_head or token.type == "thead_open"


def _directive(token: Token, line: int) -> Iterator[tuple[int, str]]:
    """Yield the passages of a directive: its title, its texts among the options, its content."""
    match = re.match(r"\{([^}\s]+)\}\s*(.*)", token.info)
    if match is None:
        return  # A block of code.
    name, argument = match.groups()
    lines = token.content.splitlines()
    start, options = 0, {}
    if lines and lines[0].strip() == "---":
        end = next((i for i, text in enumerate(lines[1:], 1) if text.strip() == "---"), 0)
        try:
            options = _texts_of(yaml.safe_load("\n".join(lines[1:end])))
        except yaml.YAMLError as error:
            raise ValueError(
                f"line {line}: the options of this {{{name}}} are not valid YAML; "
                f"a text with a colon or a dash needs quotation marks. {error}"
            ) from error
        start = end + 1
    else:
        while start < len(lines) and (option := _OPTION.match(lines[start])):
            if _SPELT_OUT.match(option[1]):
                options[option[1]] = option[2]
            start += 1
    for text in options.values():
        yield line, text
    if name == "code-cell" or _SILENT.fullmatch(name):
        return
    if name not in ("figure", "image"):
        yield from ((line, text) for _, text in _passages(argument, 0))
    yield from _passages("\n".join(lines[start:]), line + start)


def _texts_of(options: Any) -> dict[str, str]:
    """Return the texts that a reader meets among a directive's or a cell's nested options."""
    found: dict[str, str] = {}
    if isinstance(options, dict):
        for name, value in options.items():
            if isinstance(value, str) and _SPELT_OUT.match(str(name)):
                found[str(name)] = value
            found.update(_texts_of(value))
    return found


def _flatten(tokens: list[Token]) -> str:
    """Return the text of a paragraph, with `_INSERTED` for what is not prose."""
    parts = []
    for token in tokens:
        if token.type == "text":
            parts.append(token.content)
        elif token.type in ("softbreak", "hardbreak"):
            parts.append("\n")
        elif token.type in ("math_inline", "math_single", "code_inline"):
            # A lone number is a number, in whatever type it is set.
            bare = re.sub(r"\\[,;! ]|[{}]", "", token.content).replace("\\%", "%")
            bare = bare.replace("\\times", "×")
            parts.append(bare if _BARE.fullmatch(bare) else _INSERTED)
        elif token.type == "myst_role":
            if token.meta.get("name") in _TEXT_ROLES:
                parts.append(re.sub(r"\s*<[^>]*>$", "", token.content))
            elif not str(token.meta.get("name")).startswith("cite"):
                parts.append(_INSERTED)
        elif token.type in ("substitution_inline", "footnote_ref"):
            parts.append("")
    return "".join(parts)


_ABBREVIATION = re.compile(
    r"(?:\b(?:e\.g|i\.e|vs|cf|et al|approx|fig|eq|sec|ch|no|dr)|\b[A-Z])\.$", re.I
)


def _sentences(text: str) -> Iterator[tuple[int, str]]:
    """Yield (start, sentence); a full stop inside a number or an abbreviation ends none."""
    start = 0
    for match in re.finditer(r"[.!?…]+[\"”')\]]*(?=\s|$)", text):
        if _ABBREVIATION.search(text[start : match.end()]):
            continue
        yield start, text[start : match.end()]
        start = match.end()
    if text[start:].strip():
        yield start, text[start:]


# --------------------------------------------------------------------------------------------
# What a sentence's words mean


def _alternatives(words: str) -> str:
    """Return a pattern for any of the words; "_" stands for white space inside one of them."""
    return "|".join(word.replace("_", r"\s+") for word in words.split())


_DIGITS = r"(?:\d{1,3}(?:[,  ']\d{3})+(?:\.\d+)?|\d+(?:\.\d+)?|\.\d+)(?:e[-−+]?\d+)?"
_UNITS = "one|two|three|four|five|six|seven|eight|nine"
_TEENS = "ten|eleven|twelve|thirteen|fourteen|fifteen|sixteen|seventeen|eighteen|nineteen"
_TENS = "twenty|thirty|forty|fifty|sixty|seventy|eighty|ninety"
_SMALL = rf"(?:(?:{_TENS})(?:[- ](?:{_UNITS}))?|{_TEENS}|{_UNITS}|zero)"
_WORDS = (
    rf"(?:(?:{_SMALL}|a|several)\s+)?(?:hundred|thousand|million|billion|dozen)"
    rf"(?:\s+(?:and\s+)?{_SMALL})?|{_SMALL}(?:\s+point(?:\s+(?:{_UNITS}|zero))+)?"
)
_N = rf"(?:(?<![\w.,])[-−+~≈]?{_DIGITS}(?![\d])|(?<![\w-])(?:{_WORDS})(?!\w))"
_ABOUT = (
    r"(?:(?:about|around|roughly|nearly|almost|only|just|some|over|under|more|less|fewer|than|at|"
    r"least|most|up|to|approximately|exactly|well|close|a|an|the|still|already|now|merely|even|"
    r"further|another|full|whole|good|barely|first|last)\s+)*"
)

# What a run measures. The first kind is about how well or how fast a model does; the second is
# also met in definitions and worked examples, so that only a fraction of it is a result.
_MEASURED = _alternatives(
    r"""
    accurac(?:y|ies) loss(?:es)? errors?(?:_rates?)? scores? auc f1 recall perplexity r?mse mae bleu
    speed-?\s?ups? run-?\s?times? overhead latency throughput hit_rate sensitivity specificity
    (?:false|true)_(?:positive|negative)s?(?:_rates?)? (?:fpr|fnr|tpr)
    (?:success|failure|misclassification)_rates? cross-?\s?entropy (?:training|wall|run)[-\s]?time
    speed cost performance likelihood precision rmspe mape calibration
    (?:learned|trained|fitted|final|estimated|recovered|measured|observed)_[a-z]+
    """
)
_STATISTIC = _alternatives(
    r"""
    means? averages? medians? variances? deviations? std correlations? covariances? norms?
    differences? gaps? ratios? improvements? gains? gradients? slopes? intercepts? coefficients?
    activations? outputs? predictions? probabilit(?:y|ies) logits? similarit(?:y|ies) residuals?
    distances? (?:largest|smallest|final|best|last)_(?:value|one|weight) share fraction proportion
    result answer value estimate range spread
    """
)
# How something came out. An instruction does not use these with a bare value.
_CAME_OUT = _alternatives(
    r"""
    reach(?:es|ed|ing)? achiev(?:e|es|ed|ing) attain(?:s|ed|ing)? obtain(?:s|ed)? scor(?:es|ed|ing)
    hits? drop(?:s|ped|ping)? falls? fell falling fallen decreas(?:es|ed|ing) declin(?:es|ed|ing)
    shr(?:inks?|ank|unk) s(?:inks?|ank|unk) plunge[sd]? plummet(?:s|ed)? ris(?:e|es|en|ing) rose
    climb(?:s|ed|ing)? gr(?:ows|ew|own) jump(?:s|ed|ing)? leap(?:s|t|ed)? soar(?:s|ed)?
    improv(?:e|es|ed|ing) increas(?:es|ed) converg(?:e|es|ed|ing) settl(?:e|es|ed|ing)
    plateau(?:s|ed)? stall(?:s|ed)? levels?_off levelled_off ends?_(?:up_)?(?:at|near) ends?_up_with
    ended_(?:up_)?(?:at|near) finish(?:es|ed)_(?:at|with|on|near) arriv(?:e|es|ed)_at
    land(?:s|ed)? comes?_(?:out|to) came_(?:out|to) measur(?:es|ed) record(?:s|ed) observ(?:ed|e)
    peak(?:s|ed|ing)? exceed(?:s|ed)? surpass(?:es|ed)? beats? outperform(?:s|ed)? averag(?:es|ed)
    amount(?:s|ed)?_to turns?_out turned_out went_(?:from|to|up|down) goes_(?:from|up|down)
    gets?_(?:to|down|up|as) got_(?:to|down|up|as) manag(?:es|ed) hovers? hovered stays? stayed
    stabili[sz]es? stabili[sz]ed bottoms?_out bottomed_out tops?_out topped_out stopped
    stops?_(?:at|near|around)
    creeps? crept los(?:es|t) gain(?:s|ed)? diverg(?:es|ed) explod(?:es|ed) overshoots? slid slides
    slipp?(?:s|ed) deliver(?:s|ed)
    """
)
# Weaker: also said of functions and of arithmetic, so that only a fraction counts.
_GAVE = _alternatives(
    r"""
    g[ia]ves? gave yield(?:s|ed)? produc(?:es|ed) prints? printed returns? returned gets? got
    s(?:ee|aw) find found shows? showed reads predict(?:s|ed) assign(?:s|ed) outputs? computes?
    shares? is_now are_now is_only was were ours here_is differs? differed moves? moved equals
    remains? remained leaves? left says? said reports? reported takes? took expect(?:ed)?
    """
)
# A number attached to one of these is its value, and chosen by us.
_SETTINGS = _alternatives(
    r"""
    learning[-\s]rates? rates? lrs? momentum weight_decay decay batch_sizes? sizes?
    drop-?out(?:_(?:probability|rate))? temperatures? thresholds? cut-?offs? tolerances? strides?
    paddings? widths? heights? depths? lengths? betas? epsilon eps leaks? scales? factors?
    hyper-?parameters? default(?:s|_value)? patience alpha beta gamma lambda sigma mu limits?
    indices index interval degree power base exponent label(?:s|led)? targets? positions? budget
    smoothing warm-?up max min starting_(?:value|point|from) starts?_(?:at|from) starting
    begin(?:s|ning)? initial_value set chosen choose choosing pick use using used try tried
    with_(?:mean|std|standard_deviation|variance)
    """
)
# A number attached to one of these says how many, how large or which.
_THINGS = _alternatives(
    r"""
    batch(?:es)? mini-batch(?:es)? kernels? epochs? steps? parameters? arguments? channels?
    dimensions? pixels? slices? classes digits? numbers? integers? points?_at inputs? folds? split
    versions? probabilit(?:y|ies) confidence level tokens? maximum minimum lists? groups? images?
    layers? rows? columns? examples? samples? values? vectors? factors? seeds?
    """
)
_NUMBERS = rf"(?:\s*(?:[,/&–-]|and|or|to|then)\s*|\s+|{_N})*"
_LINKS = _alternatives(  # May stand between a setting and its value.
    r"""
    of is are was were be been to at from by and or then set equal equals between about around
    roughly only just up down a an the value values number numbers both either like such as usually
    often typically always called named in below above under over than lower higher smaller larger
    greater less more raise[sd]? rises? falls? drops? fixed kept instead versus vs against through
    until again it now here via with
    """
)
_LINK = rf"(?:\s*(?:[,=:≈(→/]|–)\s*|\s+|\b(?:{_LINKS})\b|{_N})*"
# "chapter 3" is a name.
_LABELS = _alternatives(
    r"""
    chapters? sections? lessons? figures? fig\. tables? equations? eqs?\. steps? parts? questions?
    exercises? cells? rows? columns? lines? layers? class(?:es)? digits? images? epochs? pages?
    numbers? version python pytorch torch numpy course appendix listing volumes? vol\. issue item
    example case stage phase level units? neurons? batch iterations? index position seed axis axes
    dim dimension rank no\. number cuda fastai jupyter ubuntu gpt cc_by apache label(?:led)? labels
    bin type group day rule point objective note footnote pp?\. channel fold trial experiment
    """
)
# Comparatives that compare what came out, not how large something was made.
_FASTER = _alternatives(
    r"""
    faster slower quicker better worse higher lower cheaper costlier noisier stronger weaker closer
    steeper flatter sooner later longer shorter smoother harder easier tighter greater smaller
    larger bigger less fewer more above below ahead behind off
    """
)
_FAST = _alternatives(
    r"""
    fast slow quick(?:ly)? slowly accurate(?:ly)? good well bad(?:ly)? high low likely often noisy
    expensive cheap costly long efficient(?:ly)? stable precise(?:ly)? strong weak steep much
    frequent(?:ly)? confident sure probable reliable robust effective small large big far close soon
    """
)
# Things whose number or size somebody decides on.
_BUILT = _alternatives(
    r"""
    channels? filters? parameters? weights? images? data layers? units? pixels? neurons? columns?
    rows? inputs? outputs? features? examples? samples? epochs? steps? classes kernels? heads lines
    code networks? batch(?:es)? rates? lr strides? heights? widths? depths? sizes? resolution
    dimensions? values? numbers? tensors? window interval length vocabulary momentum temperature
    side axis grids? maps?
    """
)
_TIME = r"(?:seconds?|secs?|minutes?|mins?|hours?|hrs?|days?|weeks?)"
_TINY_TIME = r"(?:ms|milli-?seconds?|[µμu]s|micro-?seconds?|ns|nano-?seconds?)"
_MEMORY = r"(?:[kmgt]i?b|(?:kilo|mega|giga|tera)bytes?|flops|gflops|tflops)"
_PERCENT = r"(?:\s*%|\s*‰|[\s-]+(?:per\s?cent(?:age)?|percentage\s+points?|pct)\b)"
_POINTS = r"\s+(?:percentage\s+|accuracy\s+)?points?\b"
_RANGE = rf"(?:\s*(?:[-–—]|to|or|and)\s*{_N})?"
_FRACTION = (
    rf"(?:(?:a|one|two|three|four)[\s-]+(?:third|quarter|fifth|sixth|tenth|hundredth|thousandth)s?|"
    rf"(?:more\s+than\s+|over\s+|nearly\s+|almost\s+|about\s+)?half|a\s+(?:third|quarter|fifth|"
    rf"tenth)|"
    rf"{_N}(?:(?:\s+[a-z]+)?\s+(?:out\s+of|in)|(?<!one)\s+of)\s+(?:every\s+|the\s+|its\s+|our\s+)?{_N})"
)
# What some of the things were found to be.
_STATE = _alternatives(
    r"""
    (?:in)?correct(?:ly)? right wrong(?:ly)? mis(?:classif|label|read|taken|judg|predict)\w* dead
    die died never_(?:fire|activ|change|receive|learn|switch)\w* near[-\s]zero saturat\w+
    recogni[sz]ed? confus\w+ fail\w* inactive silent zeros? classified surviv\w+ converg\w+
    diverg\w+ vanish\w* mistakes? errors? identified detect(?:ed|s)? responds? sure certain
    confident fooled rejected solved
    """
)


@cache
def _rx(pattern: str) -> re.Pattern[str]:
    """Compile a pattern once; the rule does not look at the case of letters."""
    return re.compile(pattern, re.IGNORECASE)


def _has(pattern: str, text: str) -> bool:
    """Return whether the text has one of the pattern's words."""
    return _rx(rf"(?<![\w-])(?:{pattern})(?![\w])").search(text) is not None


_HYPOTHESIS = _alternatives(
    r"""
    suppose imagine assum(?:e|ing) pretend hypothetical(?:ly)? consider_an? let_us_say
    if_\w+(?:_\w+){0,4}_were would_(?!see|find|expect|reach|get)\w+
    """
)
_CLAUSE = r"[;—]|:(?=\s)|\s(?:because|while|whereas|but|although|though|so\s+that|unless|since)\s"


def _judge(sentence: str) -> tuple[int, str] | None:
    """Return where a sentence states a result, and the reason; None when it states none."""
    if sentence.rstrip().endswith("?") or _has(_HYPOTHESIS, sentence):
        return None
    # What comes after "if" is no statement, up to the comma: spaces keep every place as it is.
    sentence = _rx(r"(?<!\w)(?:if|whenever)\s[^,;:]*").sub(lambda m: " " * len(m[0]), sentence)
    start = 0
    topic = ""
    for match in [*_rx(_CLAUSE).finditer(sentence), None]:
        end = match.start() if match else len(sentence)
        clause = sentence[start:end]
        problem = _judge_clause(clause, topic)
        if problem is not None:
            at, words, kind = problem
            return start + at, f"{' '.join(words.split())!r} {kind}"
        # "Accuracy: 0.97": what stands before a colon is what the rest is about.
        topic = f"{topic} {clause}" if match and match.group().startswith(":") else ""
        start = match.end() if match else end
    return None


def _judge_clause(clause: str, topic: str) -> tuple[int, str, str] | None:
    """Return (where, words, what kind of result), or None; ``topic`` is what stood before."""
    context = f"{topic} {clause}"
    for check in (_ratio, _change, _share, _count):
        problem = check(clause, context)
        if problem is not None:
            return problem
    for match in _rx(_N).finditer(clause):
        kind = _number(clause, context, match)
        if kind is not None:
            return match.start(), match.group(), kind
    return None


def _tells_result(text: str) -> bool:
    """Return whether the words are about something measured, or about how it came out."""
    return _has(_MEASURED, text) or _has(_CAME_OUT, text)


def _ratio(clause: str, context: str) -> tuple[int, str, str] | None:
    """Find "twice as fast", "three times slower", "a tenfold speed-up", "by a factor of ten"."""
    mixed = r"(?:\s+and\s+(?:a\s+half|a\s+third|a\s+quarter|three\s+quarters))?"
    times = (
        rf"(?:twice|thrice|double|triple|half|{_N}{mixed}{_RANGE}(?:\s*[x×](?!\w)|[\s-]+times|"
        rf"-?\s?fold)"
        rf"|(?:{_SMALL})fold|\d+fold)"
    )
    part = rf"(?:{times}|{_FRACTION})"
    kind = "compares two results"
    measured = rf"{_MEASURED}|time|memory|odds|risk|that\s+of|those\s+of"
    # "twice as fast", but not "twice as wide" and not "twice as many channels".
    for match in _rx(rf"{part}\s+as\s+(\w+)(?:\s+(\w+))?").finditer(clause):
        word, following = match[1], match[2] or ""
        if _rx(r"\ban?\s+[\w-]+\s+$").search(clause[: match.start()]):
            continue  # "a source twice as noisy" is one that somebody made so
        if word.lower() in ("many", "much"):
            wrong = _has(r"errors|mistakes|misses|time|memory", following)
            if wrong or _has(_CAME_OUT, clause[: match.start()]):
                return match.start(), match.group(), kind
        elif word.lower() in ("large", "big", "small", "far", "long", "high"):
            if _has(rf"{_MEASURED}|takes?|took|lasts|error", context):
                return match.start(), match.group(), kind
        elif _has(_FAST, word):
            return match.start(), match.group(), kind
    # "three times slower", "10× better", "40 % lower", "a third fewer errors".
    steps = rf"(?:{part}|{_N}{_RANGE}(?:{_PERCENT}|{_POINTS})|a\s+(?:third|quarter|fifth|tenth))"
    better = rf"(?:(?:much|even|as)\s+)?(?:{_FASTER}|\w+er\s+than)"
    for match in _rx(rf"{steps}\s+(?:{better})(?!\w)(?:\s+(\w+))?(?:\s+(\w+))?").finditer(clause):
        things = " ".join(word for word in match.groups()[-2:] if word)
        chosen = _rx(rf"(?<![\w-])(?:{_SETTINGS}|{_THINGS})\s+(?:is\s+)?$")
        size = _has("larger|smaller|higher|lower|bigger|greater|longer|shorter", match.group())
        if size and chosen.search(clause[: match.start()]):
            continue  # "a learning rate ten times smaller"
        built = _has(rf"(?:{_BUILT})", things) and not _has(_MEASURED, context)
        if not (built and _has("more|fewer|less|larger|smaller|bigger", match.group())):
            return match.start(), match.group(), kind
    # "twice the error", "a 3× speed-up", "a tenfold improvement", "grows tenfold".
    article = r"(?:(?:of\s+)?(?:the|its|our|their)\s+|in\s+)"
    noun = (
        rf"(?:\w+\s+)?(?:{measured}|number\s+of\s+(?:epochs|iterations|updates)|improvements?|"
        r"reductions?|gains?|increase|decrease|drop|savings?)"
    )
    found = _rx(rf"(?:{times}\s+{article}?|{_FRACTION}\s+{article}){noun}(?!\w)").search(clause)
    if found and not _has(rf"(?:{_CONFIG_ACT})", clause[: found.start()]):
        return found.start(), found.group(), kind
    found = _rx(rf"(?:{_CAME_OUT}|faster|slower)\s+(?:by\s+)?(?:\w+\s+)?{times}(?!\w)").search(
        clause
    )
    if found and not _has(r"half|double", found.group()) and not _has(_SETTINGS, clause):
        return found.start(), found.group(), kind
    found = _rx(r"half\s+(?:a\s+)?(?:per\s?cent|percentage\s+point|point)(?!\w)").search(clause)
    if found:
        return found.start(), found.group(), kind
    pattern = rf"(?:a\s+)?factors?\s+(?:of\s+)?{_ABOUT}{_N}"
    found = _rx(pattern).search(clause)
    if found and (
        _has(_FASTER, clause) or _tells_result(context) or _has(r"time|memory|differs?", clause)
    ):
        setting = _has(r"learning\s+rates?|lr|scal\w+|multipl\w+|divid\w+|downsampl\w+", clause)
        if not (setting and not _has(_MEASURED, context)):
            return found.start(), found.group(), kind
    found = _rx(rf"(?:an|{_N}|several|many)\s+orders?\s+of\s+magnitude").search(clause)
    if found and (_has(_FASTER, clause) or _tells_result(context)):
        return found.start(), found.group(), kind
    return None


_CONFIG_ACT = _alternatives(
    r"""
    hold(?:ing|s)? held keep(?:ing|s)? kept set(?:ting|s)? reserv\w+ put(?:ting|s)? split(?:ting|s)?
    use uses using take sampl\w+ drop(?:ping)?(?=_(?:out|each|every)) zero(?:es|ing)? mask\w*
    remov\w+ crop\w* cut(?:ting|s)? multipl\w+ divid\w+ choos\w+ pick\w* try
    we_(?:train|double|halve|drop|leave|increase|decrease|raise|lower) doubling halving rotat\w+
    zoom\w* resiz\w+ shift\w* pad\w* stretch\w* trim\w* leav(?:e|es|ing) overlap\w*
    """
)


def _change(clause: str, context: str) -> tuple[int, str, str] | None:
    """Find "halves the loss", "the error doubled", "cuts the time in half"."""
    kind = "tells a change that was measured"
    measured = rf"{_MEASURED}|time|memory\s+use|memory|noise|mistakes|gradients?|spread|training"
    verb = r"(?:halv|doubl|tripl|quadrupl)(?:e|es|ed|ing)"
    match = _rx(rf"\b{verb}\s+(?:\w+\s+){{0,4}}?(?:{measured})(?!\w)").search(clause)
    if match and not _has(_BUILT, match.group()):
        return match.start(), match.group(), kind
    match = _rx(
        rf"\b(?:{measured})(?!\w)(?:\s+(?!of\b)\w+){{0,3}}?\s+"
        r"(?:halves|halved|doubles|doubled|triples|tripled|quadruples|quadrupled)(?!\w)(?!"
        r"\s+(?:the|its)\b)"
    ).search(clause)
    if match:
        return match.start(), match.group(), kind
    match = _rx(
        r"\b(?:cut|cuts|slash\w*|reduc\w+|drop\w*|fell|falls|shr\w+)\s+(?:\w+\s+){0,4}?(?:in|"
        r"by|to)\s+"
        r"(?:half|a\s+(?:third|quarter|fifth|tenth)|two[\s-]thirds|three[\s-]quarters)\b"
    ).search(clause)
    if match and _has(measured, context):
        return match.start(), match.group(), kind
    part = rf"(?:by|to|around|about|at|is|was)\s+{_ABOUT}{_FRACTION}(?!\s+(?:of\s+)?{_N})"
    match = _rx(rf"\b{part}(?!\w)").search(clause)
    if match and _has(_MEASURED, context) and not _has(_CONFIG_ACT, clause[: match.start()]):
        return match.start(), match.group(), kind
    match = _rx(rf"(?:{_CAME_OUT})\s+(?:to|by|from)\s+{_ABOUT}{_FRACTION}(?!\w)").search(clause)
    if match:
        return match.start(), match.group(), kind
    rounds = r"(?:time|steps?|epochs?|iterations?|updates?|memory)"
    uses = rf"(?:in|with|needs?|takes?|uses?)\s+{_ABOUT}{_FRACTION}"
    match = _rx(rf"\b{uses}\s+(?:of\s+)?the\s+{rounds}").search(clause)
    if match:
        return match.start(), match.group(), kind
    return None


def _share(clause: str, context: str) -> tuple[int, str, str] | None:
    """Find "two thirds of the units are dead", "nine out of ten images are right"."""
    for match in _rx(_FRACTION).finditer(clause):
        rest = clause[match.end() :]
        chance = _has(r"chance|guess(?:es|ing)?|coin|dice|random(?:ly)?", context)
        which = _rx(r"\b(?:first|second|other|one|lower|upper|left|right|this|each|either)\s+$")
        if which.search(clause[: match.start()]) and "half" in match.group().lower():
            continue
        if chance or _has(_CONFIG_ACT, clause[: match.start()]):
            continue
        if _has(_STATE, clause.replace(match.group(), "")) and not _has(r"split|held|kept", rest):
            return match.start(), match.group(), "tells a share that was found"
    return None


def _count(clause: str, context: str) -> tuple[int, str, str] | None:
    """Find "misclassifies 12 images", "makes 40 mistakes", "converges after three epochs"."""
    kind = "counts what came out"
    about = rf"{_ABOUT}(?P<n>{_N})"
    rounds = (
        r"(?:more\s+|fewer\s+)?(?:epochs?|steps?|iterations?|updates?|passes|batches|mini-batches)"
    )
    learns = _alternatives(
        r"""
        converg\w+ diverg\w+ over-?fit\w* plateau\w* settl\w+ explod\w+ blows?_up stops?_improving
        stopped_improving levels?_off collapses? collapsed is_solved flattens? flattened
        becomes?_nan turns?_(?:in)?to_nan perfect(?:ly)? overflows? saturates? is_done gets?_there
        """
    )
    patterns = [
        rf"(?<!that\s)(?<!which\s)(?:stops|stopped|crashe[sd]|gives\s+up|gave\s+up)\s+(?:after|at)"
        rf"\s+{about}\s+{rounds}(?!\s+without)",
        rf"(?:saves?|saved|spares?|costs?|gains?|loses|lost|wins?)\s+(?:us\s+|you\s+)?{about}"
        rf"\s+(?:extra\s+)?{rounds}",
        rf"(?:agree|match|coincide|equal|accurate|correct|identical|same|differ)\w*"
        rf"[\w\s]{{0,30}}?\s(?:to|in|after|within|up\s+to)\s+{about}"
        rf"\s+(?:decimal|significant|digits?|decimals|places)",
        rf"(?:{learns})(?!\w)[\w\s]{{0,25}}?\b(?:after|in|within|by|at|for)\s+{about}\s+{rounds}",
        rf"(?:after|in|within)\s+{about}\s+{rounds}(?:,)?[\w\s]{{0,25}}?\b(?:{learns})(?!\w)",
        rf"(?:needs?|needed|takes?|took|requires?|required)\s+{about}"
        rf"\s+{rounds}[\w\s]{{0,12}}?\s(?:to|until|before)\s",
        rf"(?:needs?|needed|took|requires?|required)\s+{about}\s+(?:epochs?|iterations?|updates?|"
        rf"fewer|more)\b",
        rf"(?:needs?|needed|takes|took|required)\s+{_ABOUT}(?P<n>\d[\d,]+)\s+{rounds}",
        rf"(?:after|in|within)\s+(?:only|just|merely|as\s+few\s+as)\s+{about}\s+{rounds}",
        rf"{about}\s+(?:epochs?|steps?|iterations?|updates?)\s+(?:are|is|were|was)\s+(?:enough|"
        rf"needed|sufficient)",
        rf"(?:{_N})\s+(?:epochs?|steps?|iterations?|updates?)\s+(?:earlier|later|sooner|fewer)",
        rf"mis(?:classif|label|read|recogni|judg|predict)\w+\s+{about}",
        rf"{about}\s+(?:\w+\s+){{0,4}}?(?:is|are|was|were|get|gets|got|being)?\s*mis(?:classif|"
        rf"label|read|recogni|judg|predict)\w+",
        rf"(?:mak(?:es?|ing)|made|commit(?:s|ted)?|leaves?|left|remain\w*|produc\w+|still\s+has|"
        rf"with\s+only)\s+{about}\s+(?:\w+\s+)?(?:errors?|mistakes?|misses)",
        rf"{about}\s+(?:fewer|more|extra|additional)\s+(?:errors?|mistakes?|misses|correct)",
        rf"(?:gets?|got|getting|answers?|answered|classif\w+|predicts?|predicted|has|"
        rf"recogni[sz]es?|finds?|found|identif\w+|detects?|detected)\s+{about}\s+(?:[\w-]+"
        rf"\s+){{0,5}}?(?:right|wrong|correct(?:ly)?|incorrect(?:ly)?)(?!\s+(?:answer|shape|"
        rf"order|place|size|way))",
        rf"(?:right|wrong|correct|incorrect)\s+(?:\w+\s+){{0,2}}?(?:for|on|in|about)"
        rf"\s+{about}(?:\s+(?:out\s+)?of)?\s",
        rf"{about}\s+(?:of\s+(?:the\s+|its\s+|our\s+|these\s+|those\s+)?|out\s+of"
        rf"\s+)(?:(?:{_N})\s+)?(?:[\w-]+\s+){{0,4}}?(?:is|are|were|was|stay|remain|end\s+up|have|"
        rf"had|never|die|died|survive)\s*(?:[\w-]+\s+)?(?:{_STATE})(?!\w)",
        rf"{about}\s+(?:dead|inactive|saturated|silent|wrong|misclassified)\s+(?:\w+)",
        rf"{about}\s+(?:[\w-]+\s+){{0,3}}?(?:are|were|stay|remain|end\s+up|have)"
        rf"\s+(?:(?:completely|already|now|entirely|effectively|all)\s+)?(?:dead|saturated|"
        rf"inactive|misclassified|mislabell?ed|never\s+active|silent|wrong|died|nearly\s+zero)",
        rf"{about}\s+(?:[\w-]+\s+){{0,3}}?(?:die|died|never\s+(?:fire|activate|change|learn)|"
        rf"fail|failed|diverge|diverged|converge|converged|survive|survived)(?!\w)",
    ]
    for pattern in patterns:
        for match in _rx(pattern).finditer(clause):
            number = match.groupdict().get("n") or match.group()
            if number.lower() not in ("one", "zero", "1", "0") and not _labelled(
                clause, match.start("n") if "n" in match.groupdict() else match.start()
            ):
                return match.start(), match.group(), kind
    return None


def _labelled(clause: str, start: int) -> bool:
    """Return whether the number that starts there is a name: chapter 3, class 7."""
    return (
        _rx(rf"(?<![\w-])(?:{_LABELS})\s+(?:#\s*)?(?:{_N}\s*(?:,|and|or|to|–|-|&)\s*)*$").search(
            clause[:start]
        )
        is not None
    )


def _number(clause: str, context: str, match: re.Match[str]) -> str | None:
    """Return what kind of result one number states, or None when it is part of a definition."""
    before, after, text = clause[: match.start()], clause[match.end() :], match.group()
    digits = text.lstrip("-−+~≈")
    if _structural(before, after, digits):
        return None
    setting = _is_setting(clause, before, after)
    strong = _has(_CAME_OUT, before)

    if _rx(rf"^{_RANGE}{_PERCENT}").match(after):
        return _percent(clause, context, digits, before, after)
    if _rx(rf"^{_RANGE}{_POINTS}").match(after):
        if _rx(rf"^{_RANGE}{_POINTS}\s+of\s+(?:{_MEASURED})").match(after):
            return "gives a difference that was measured"
        moved = _alternatives(
            r"""
            gains? gained better worse higher lower improv\w+ drop\w* los[ets]+ above below ahead
            behind percentage accuracy fell falls? rose rises? jump\w* gap
            """
        )
        plane = _alternatives(
            r"""
            plane line plot data scatter exercise grade worth earn\w*
            """
        )
        if _has(moved, context) and not _has(plane, context):
            return "gives a difference that was measured"
        return None
    spent = _spent(clause, context, before, after)
    if spent is not None:
        return spent or None
    if setting or _labelled(clause, match.start()):
        return None

    fraction = "." in digits or "e-" in digits.lower() or " point " in digits
    small = digits.lower() in ("0", "1", "one", "zero", "a hundred") and not (
        digits in ("0", "zero")
        and _has(r"fell|dropped|reached|sank|went", clause)
        and _has(_MEASURED, context)
    )
    if small:
        return None
    counts = _counts_something(after)
    if (
        _rx(rf"^\s*(?:{_RANGE}\s+)?(?:\w+\s+)?(?:{_MEASURED})(?!\w)").match(after)
        and (
            fraction or not counts or _rx(r"^\s+(?:accuracy|loss|auc|error\s+rate)\b").match(after)
        )
        and (not _rx(r"^\s+(?:\w+\s+)?(?:errors|losses|scores|costs?)\b").match(after) or fraction)
    ):
        return "is the value of something measured"
    if counts and not fraction:
        return None
    if (_rx(r"^\s*→").match(after) and fraction) or (_rx(r"→\s*$").search(before) and fraction):
        return "is a value that came out"
    linked = rf"(?<![\w-])(?:{_MEASURED})(?![\w])[^,;()]{{0,40}}?(?:{_TO_VALUE})\s+{_ABOUT}$"
    about = f"{context[: len(context) - len(clause)]}{before}"
    named = fraction or _rx(linked).search(about) or about.rstrip().endswith(":")
    if named and not counts and _has(_MEASURED, context):
        return "is the value of something measured"
    if strong and not counts and not _aside(before, after):
        built = _has(rf"{_BUILT}|{_SETTINGS}", before) and not fraction
        return None if built else "is a value that came out"
    if fraction and not _has(_CHOSEN, context):
        stated = _has(r"is|are|to|at|about|the\s+[\w ]+\s+of", before)
        stated = stated or before.rstrip().endswith((":", "=", "≈"))
        agree = _has(r"agrees?|match(?:es)?|coincides?|differs?|equals?", before)
        if agree or _has(_GAVE, before) or (stated and _has(_STATISTIC, before)):
            return "is a value that came out"
    if _rx(r"^0?\.\d{3,}$|^\d+\.\d{3,}$").match(digits) and not _rx(
        r"^0?\.(?:0*1|9+)0*$|^3\.14\d*$|^2\.718\d*$"
    ).match(digits):
        return "has the precision of a measurement"
    return None


_CHOSEN = _alternatives(
    r"""
    noise distribution distributed drawn draw normal gaussian uniform multipl\w+ divid\w+
    add(?:ed|s)?
    subtract\w* initiali[sz]\w+ call(?:s|ed)? pass(?:es|ed|ing)? threshold choos\w+ set sets coin
    dice clamp\w* clip\w* round\w*
    """
)


_TO_VALUE = r"of|is|was|are|were|at|to|under|below|above|over|near|than|only|reads|[:=≈→]"


def _aside(before: str, after: str) -> bool:
    """Return whether a number is only the end of a comparison in an aside, as "(3 of them)"."""
    return _rx(r"\((?:see\s+)?(?:\w+\s+)?$").search(before) is not None and after.startswith(")")


def _is_setting(clause: str, before: str, after: str) -> bool:
    """Return whether the number is the value of something that somebody chose."""
    match = _rx(rf"(?<![\w-])(?:{_SETTINGS}){_LINK}$").search(before)
    counted = match and _rx(rf"{_N}\s+(?:\w+\s+)?$").search(before[: match.start()])
    began = match and _rx("start|begin|initial").match(match.group()) and _has(_MEASURED, before)
    if match and not counted and not began:
        return True  # "a rate of 0.1", but not "the loss over three seeds is 0.1"
    match = _rx(rf"(?<![\w-])(?:{_THINGS})\s*(?:\bof\b|[=:(])?{_NUMBERS}$").search(before)
    if match and not _has(r"gives?|assigns?|gave|assigned|gets?|got|average|still", before):
        return True
    role = rf"^\s+(?:\w+\s+)?(?:as|for|is|was)\s+(?:the|a|an|our|its)\s+(?:\w+\s+)?(?:{_SETTINGS})"
    return _rx(rf"{role}(?!\w)|^[\s-]+(?:{_SETTINGS})(?!\w)").search(after) is not None


def _structural(before: str, after: str, digits: str) -> bool:
    """Return whether the number is part of a name, a size, a date or a compound word."""
    if _rx(r"\d\s*[-–]$|[A-Za-z_]-$|[/:#]$|\b[A-Za-z]\s?=\s?$").search(before) and not _rx(
        rf"^{_PERCENT}|^\s*[x×]\s|^\s*{_TIME}|^\s*{_TINY_TIME}"
    ).match(after):
        return True  # 784-30-1, top-5, a/b
    if _rx(r"^\s*(?:×|x|by)\s*(?:\d|[a-z]\b)|^-by-").match(after) or _rx(
        r"(?:\d|\b\w)\s*(?:×|x|-by-|by)\s*$"
    ).search(before):
        return True  # 28×28, 3 by 3
    if _rx(
        r"^-(?!(?:fold|times|percent|point|second|minute|hour|millisecond)s?\b)[a-z]|"
        r"^[a-z](?!\w*\s*(?:faster|slower))"
    ).match(after):
        return not _rx(r"^(?:x|s|ms|k|M)\b").match(after) or (digits.isdigit() and after[:1] == "s")
    if _rx(r"^-\d|^\s*/\s*[a-z◆]").match(after):
        return True
    if _rx(r"^(?:1[6-9]|20)\d\d$").match(digits) and not _rx(
        rf"^\s*(?:{_PERCENT}|{_TIME}|images|samples|tokens)"
    ).match(after):
        return True  # a year
    if _rx(r"\b(?:between|from|in|range)\s+\W*[-−]?(?:0|zero|one|1)\s+(?:and|to)\s*[-−]?$").search(
        before
    ):
        return True  # between 0 and 100
    return (
        _rx(r"^\s*\)?\s*(?:versus|vs\.?|against)\s+\d+s?\b(?!\.\d)").match(after) is not None
        and digits.isdigit()
    )


def _percent(clause: str, context: str, digits: str, before: str, after: str) -> str | None:
    """Judge a percentage: a result unless it is a share that somebody sets aside or chooses."""
    chosen = _alternatives(
        r"""
        drop-?out confidence_(?:interval|level|band)s? intervals? percentiles? quantiles? chance
        guess\w* coin dice validation_(?:set|split|fraction|share) split zoom opacity contrast
        brightness width tolerance threshold discount margin warm-?up schedule at_random overlap
        keep_probability by_definition goal label_smoothing momentum weight_decay learning_rates?
        test_set
        """
    )
    if (_has(rf"{_CONFIG_ACT}", before) and not _has(rf"{_MEASURED}|{_STATE}", context)) or (
        digits in ("100", "hundred", "a hundred")
        and _has(r"sure|certain|confident|of\s+the\s+time", after)
    ):
        return None
    claims = rf"{_MEASURED}|{_CAME_OUT}|{_STATE}"
    if _has(chosen, context) and not _has(claims, context):
        return None
    if _rx(r"^\s*(?:%|percent)\s+(?:confidence|credible|prediction)\s").match(after):
        return None
    return "is a percentage that was found"


def _spent(clause: str, context: str, before: str, after: str) -> str | None:
    """Judge a time, a rate or an amount of memory; "" when it is one but states no result."""
    if _rx(
        rf"^{_RANGE}\s+(?:thousand\s+|million\s+)?(?:\w+\s+)?\w+(?:\s+(?:per|a|each)\s+|"
        rf"\s*/\s*)(?:second|sec|s|minute|hour)\b"
    ).match(after):
        return "" if _rx(r"^\s+frames").match(after) else "is a speed that was measured"
    if _rx(rf"^{_RANGE}[\s-]*(?:{_TINY_TIME})(?!\w)").match(after):
        return (
            ""
            if _has(r"sleep\w*|wait\w*|timeout|pause[sd]?|interval", context)
            else "is a time that was measured"
        )
    time = _rx(rf"^{_RANGE}(?:[\s-]+(?:{_TIME})|\s+s)(?!\w)").match(after) or (
        _rx(r"^s(?!\w)").match(after)
        and _rx(r"\.\d+$").search(before + clause[len(before) : len(clause) - len(after)])
    )
    machine = _alternatives(
        r"""
        runs? ran running train(?:s|ed|ing)? execut\w+ finish\w* builds? built comput\w+ process\w*
        epochs? gpu cpu faster slower each batch(?:es)? laptop machine loop took model network
        measured converg\w+ steps? cell code version done over against instead down forward backward
        pass everything complet\w+ sav\w+ wall elapsed speed last(?:s|ed) cost(?:s)? needs? needed
        under per
        """
    )
    person = _alternatives(
        r"""
        read reading reader you your work_through exercises? questionnaire video talk lecture plan
        allow timeout sleeps? waits? waited pauses? paused every limit button walk sales days?_ago
        history budget give_it chapter lesson
        """
    )
    if time and _rx(r"^\W*(?:now\s+|then\s+)?take\s+$").search(before):
        return ""
    if time:
        strict = _alternatives(
            r"""
            runs? ran execut\w+ train(?:s|ed|ing)? gpu cpu epochs? builds? took laptop machine
            """
        )
        if _has(person, context) and not (
            _has(strict, context)
            and not _has(r"sleeps?|waits?|timeout|pauses?|read|every", context)
        ):
            return ""
        short = not _rx(rf"^{_RANGE}[\s-]+(?:min|hour|hr|day|week)").match(after)
        spent = _has(machine, context) or (short and _has(r"takes?|in\s*$|after|within", before))
        return "is a time that was measured" if spent else ""
    if _rx(rf"^{_RANGE}\s*(?:{_MEMORY})(?!\w)").match(after):
        used = _alternatives(
            r"""
            uses? used takes? took needs? needed peaks? occup\w+ consum\w+ allocat\w+ sav\w+
            reduc\w+ memory falls? fell drops? grows?
            """
        )
        return "is an amount that was measured" if _has(used, context) else ""
    return None


_NO_NOUN = _alternatives(
    r"""
    after on in at with for and or to from than when while as by but the a an of it is was were are
    over per within across against versus vs which where because if until before instead here again
    already now too so then only under without using between during that this these we you they not
    compared rather once everywhere overall today later although even also despite though yet still
    almost nearly there throughout had has have depending averaged measured both each every up down
    out through since via because just correct right wrong accurate
    """
)


def _counts_something(after: str) -> bool:
    """Return whether the number is followed by a noun that it counts ("3 epochs")."""
    following = _rx(r"^\s+([a-zA-Z◆][\w-]*)").match(after)
    return following is not None and _rx(rf"(?:{_NO_NOUN})$").match(following[1]) is None
