"""The registry of the book's data: where it comes from, its checksum, licence and citation.

`profile`, `data_dir`, `DatasetError`, `File`, `Source`, `Dataset`, `REGISTRY`, `dataset`, `fetch`,
`is_present`, `file_checksums`.

What is downloaded is held in memory until its SHA-256 is the expected one, and only then moved
into the data folder: no file in it is ever half-written, and what a download holds beyond the
files that are kept (names in court records) never reaches the disk.
"""

from __future__ import annotations

import contextlib
import difflib
import errno
import hashlib
import io
import os
import tempfile
import zipfile
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pooch
import requests
from tqdm import tqdm

__all__ = [
    "COMPAS_COLUMNS",
    "PROFILES",
    "REGISTRY",
    "Dataset",
    "DatasetError",
    "File",
    "Source",
    "data_dir",
    "dataset",
    "fetch",
    "file_checksums",
    "is_present",
    "profile",
]

PROFILES = ("sample", "full")
TIMEOUT = 20  # seconds without an answer, or without another byte, until the next mirror is tried

COMPAS_COLUMNS = (
    *("sex", "age", "age_cat", "race", "juv_fel_count", "juv_misd_count", "juv_other_count"),
    *("priors_count", "days_b_screening_arrest", "c_charge_degree", "decile_score", "score_text"),
    *("v_decile_score", "v_score_text", "is_recid", "is_violent_recid", "two_year_recid"),
)


class DatasetError(RuntimeError):
    """The data that was asked for cannot be had; the message says why and what can be done."""


def profile() -> str:
    """Return the data profile, ``"sample"`` or ``"full"``, that ``GLASSBOX_PROFILE`` names.

    Raises
    ------
    DatasetError
        If it names another one.
    """
    value = os.environ.get("GLASSBOX_PROFILE") or "sample"
    if value not in PROFILES:
        raise DatasetError(f"GLASSBOX_PROFILE must be 'sample' or 'full', but it is {value!r}.")
    return value


def data_dir() -> Path:
    """Return the folder of downloaded data: ``GLASSBOX_DATA``, or else one in the user's cache."""
    value = os.environ.get("GLASSBOX_DATA")
    return Path(value).expanduser().absolute() if value else Path(pooch.os_cache("glassbox"))


@dataclass(frozen=True)
class File:
    """A file in the data folder, the SHA-256 of its bytes, and their number."""

    name: str
    sha256: str
    size: int


@dataclass(frozen=True)
class Source:
    """One thing to download, and the files that are made of it.

    Parameters
    ----------
    original : str
        The name of what is downloaded. A reader without a network may put it into the folder.
    mirrors : tuple of str
        The addresses at which it is found, tried in turn.
    files : tuple of File
        What is kept of it.
    unpack : callable, optional
        From the downloaded bytes and the wanted names to the bytes of each. When left out, the
        one file is the download.
    sha256 : str, optional
        Of the download, where it is known and is not that of the one file.
    personal : bool
        The original names people: it is deleted even when something fails.
    """

    original: str
    mirrors: tuple[str, ...]
    files: tuple[File, ...]
    unpack: Callable[[bytes, tuple[str, ...]], dict[str, bytes]] | None = None
    sha256: str | None = None
    personal: bool = False


@dataclass(frozen=True)
class Dataset:
    """Data of the book: what it is, under which terms, and how to cite it.

    A dataset of the sample profile has no sources: the distribution in `embedded_in` carries it.
    `folder` is its place in the data folder.
    """

    name: str
    title: str
    profile: str
    licence: str
    terms: str
    citation: str
    folder: str = ""
    sources: tuple[Source, ...] = ()
    embedded_in: str = ""

    @property
    def files(self) -> tuple[File, ...]:
        """The files in the data folder, of all sources."""
        return tuple(file for source in self.sources for file in source.files)

    @property
    def size(self) -> int:
        """Bytes in the data folder."""
        return sum(file.size for file in self.files)


def _zip_members(archive: bytes, names: tuple[str, ...]) -> dict[str, bytes]:
    """Return the members with these names, whichever folder of the archive they are in."""
    with zipfile.ZipFile(io.BytesIO(archive)) as opened:
        members = {member.rpartition("/")[2]: member for member in opened.namelist()}
        return {name: opened.read(members[name]) for name in names}


def _without_identifiers(table: bytes, names: tuple[str, ...]) -> dict[str, bytes]:
    """Return the columns of ProPublica's table that name nobody, as one CSV file."""
    import pandas as pd  # slow to import, and only this needs it

    reduced = pd.read_csv(io.BytesIO(table))[list(COMPAS_COLUMNS)]
    return {names[0]: reduced.to_csv(index=False, lineterminator="\n").encode()}


def _mnist(name: str, sha256: str, size: int) -> Source:
    places = (
        "https://ossci-datasets.s3.amazonaws.com/mnist/",
        "https://storage.googleapis.com/cvdf-datasets/mnist/",
        "http://yann.lecun.com/exdb/mnist/",
    )
    return Source(name, tuple(place + name for place in places), (File(name, sha256, size),))


REGISTRY: dict[str, Dataset] = {
    entry.name: entry
    for entry in (
        Dataset(
            name="digits",
            title="1,797 handwritten digits of 8×8 pixels (enlarged to 28×28 by `digits()`)",
            profile="sample",
            licence="CC BY 4.0",
            terms="Free to use, share and change, with attribution.",
            citation="E. Alpaydin and C. Kaynak (1998). Optical Recognition of Handwritten Digits. "
            "UCI Machine Learning Repository. https://doi.org/10.24432/C50P49",
            embedded_in="scikit-learn",
        ),
        Dataset(
            name="python-reference",
            title="The Python language reference, as the interpreter's help shows it",
            profile="sample",
            licence="PSF License Version 2",
            terms="Free to use, share and change, with the licence's notice.",
            citation="Python Software Foundation. The Python Language Reference. "
            "https://docs.python.org/3/reference/",
            embedded_in="Python (pydoc_data.topics)",
        ),
        Dataset(
            name="photographs",
            title="Photographs that scikit-image installs",
            profile="sample",
            licence="public domain or CC0, each as scikit-image's documentation states",
            terms="Free to use; scikit-image asks to be cited.",
            citation="S. van der Walt et al. (2014). scikit-image: image processing in Python. "
            "PeerJ 2:e453. https://doi.org/10.7717/peerj.453",
            embedded_in="scikit-image",
        ),
        Dataset(
            name="mnist",
            title="70,000 handwritten digits of 28×28 pixels",
            profile="full",
            licence="CC BY-SA 3.0 (as usually given)",
            terms="Share alike, with attribution.",
            citation="Y. LeCun, L. Bottou, Y. Bengio and P. Haffner (1998). Gradient-based "
            "learning applied to document recognition. Proceedings of the IEEE 86(11), 2278-2324. "
            "https://doi.org/10.1109/5.726791",
            folder="mnist",
            sources=(
                _mnist(
                    "train-images-idx3-ubyte.gz",
                    "440fcabf73cc546fa21475e81ea370265605f56be210a4024d2ca8f203523609",
                    9_912_422,
                ),
                _mnist(
                    "train-labels-idx1-ubyte.gz",
                    "3552534a0a558bbed6aed32b30c495cca23d567ec52cac8be1a0730e8010255c",
                    28_881,
                ),
                _mnist(
                    "t10k-images-idx3-ubyte.gz",
                    "8d422c7b0a1c1c79245a5bcf07fe86e33eeafee792b84584aec276f5a2dbc4e6",
                    1_648_877,
                ),
                _mnist(
                    "t10k-labels-idx1-ubyte.gz",
                    "f7ae60f92e00ec6debd23a6088c31dbd2371eca3ffa0defaefb259924204aec6",
                    4_542,
                ),
            ),
        ),
        Dataset(
            name="nietzsche",
            title="The collected works of Nietzsche in English, 600,893 characters",
            profile="full",
            licence="public domain in the United States (Project Gutenberg's translations)",
            terms="Check the law of your country.",
            citation="F. Nietzsche. Collected works, Project Gutenberg's translations, as "
            "distributed with Keras.",
            folder="nietzsche",
            sources=(
                Source(
                    "nietzsche.txt",
                    ("https://s3.amazonaws.com/text-datasets/nietzsche.txt",),
                    (
                        File(
                            "nietzsche.txt",
                            "23cf69874ab69d3d256099ab530ea4be24d47d9675b673bcc67cbcd6298ec647",
                            600_901,
                        ),
                    ),
                ),
            ),
        ),
        Dataset(
            name="movielens-small",
            title="100,836 ratings of 9,742 films by 610 people (September 2018)",
            profile="full",
            licence="GroupLens usage licence (README.txt beside the data)",
            terms="Research use, no commercial use; share only under the same terms, with its "
            "README.",
            citation="F. M. Harper and J. A. Konstan (2015). The MovieLens Datasets: History and "
            "Context. ACM Transactions on Interactive Intelligent Systems 5(4), 19:1-19:19. "
            "https://doi.org/10.1145/2827872",
            folder="movielens-small",
            sources=(
                Source(
                    "ml-latest-small.zip",
                    ("https://files.grouplens.org/datasets/movielens/ml-latest-small.zip",),
                    (
                        File(
                            "ratings.csv",
                            "aa289ca83157595d0df6aea1be6a4ded676ddc4385472e8313a8ed9805352646",
                            2_483_723,
                        ),
                        File(
                            "movies.csv",
                            "5a5f32dd9bb3797b8e728a1b98958789d2b13f294a69fdfbc5727f8a9611aa07",
                            494_431,
                        ),
                        File(
                            "README.txt",
                            "e165937702ae1fac9237b6bd377f03d027f7ef97175d4a04a203e8b12d5516ea",
                            8_344,
                        ),
                    ),
                    unpack=_zip_members,
                ),
            ),
        ),
        Dataset(
            name="compas",
            title="COMPAS scores and two-year recidivism of 7,214 people, 17 columns that name "
            "nobody",
            profile="full",
            licence="public records; ProPublica states no licence",
            terms="The original names people: it is reduced in memory and never kept.",
            citation="J. Larson, S. Mattu, L. Kirchner and J. Angwin (2016). How We Analyzed the "
            "COMPAS Recidivism Algorithm. ProPublica. "
            "https://github.com/propublica/compas-analysis",
            folder="compas",
            sources=(
                Source(
                    "compas-scores-two-years.csv",
                    (
                        "https://raw.githubusercontent.com/propublica/compas-analysis/master/"
                        "compas-scores-two-years.csv",
                    ),
                    (
                        File(
                            "compas-two-years-deidentified.csv",
                            "929787c5fc22ea937c954993d6a3cd2bf3c0dcbdc9e332b67b58b96bcb689767",
                            485_375,
                        ),
                    ),
                    unpack=_without_identifiers,
                    sha256="c451db85908b2f7fef1d83203bedf6b71ecda0d5af468d82ae62178f91d0cc7d",
                    personal=True,
                ),
            ),
        ),
    )
}


def dataset(name: str) -> Dataset:
    """Return the registry's entry for a name.

    Raises
    ------
    DatasetError
        If there is none; the message names the nearest.
    """
    if name not in REGISTRY:
        close = difflib.get_close_matches(name, REGISTRY, n=1)
        hint = f"did you mean {close[0]!r}? There are" if close else "there are"
        raise DatasetError(f"There is no dataset {name!r}; {hint} {', '.join(REGISTRY)}.")
    return REGISTRY[name]


# Files whose bytes this process has read and found right, with the size and the time of change
# that they had then: a file is read in full once, and again when it was changed.
_verified: dict[Path, tuple[str, int, int]] = {}


def _is_right(path: Path, file: File) -> bool:
    """Tell whether the bytes at `path` are those of `file`; it must exist."""
    state = path.stat()
    stamp = (file.sha256, state.st_size, state.st_mtime_ns)
    if state.st_size != file.size:
        return False
    if _verified.get(path) != stamp:
        if hashlib.sha256(path.read_bytes()).hexdigest() != file.sha256:
            return False
        _verified[path] = stamp
    return True


def is_present(entry: Dataset) -> bool:
    """Tell whether everything of a dataset is there, with the right bytes."""
    paths = [(data_dir() / entry.folder / file.name, file) for file in entry.files]
    return all(path.is_file() and _is_right(path, file) for path, file in paths)


def file_checksums(of_profile: str) -> dict[str, str]:
    """Return the SHA-256 of each data file of a profile, by its path in the data folder.

    A file that is there counts by its bytes, one that is still to be downloaded by the checksum
    that it will be held to. The sample profile has no files: its data come with distributions,
    whose versions identify them.
    """
    checksums = {}
    for entry in REGISTRY.values():
        for file in entry.files if of_profile == "full" == entry.profile else ():
            name = f"{entry.folder}/{file.name}"
            path = data_dir() / name
            changed = path.is_file() and not _is_right(path, file)
            checksums[name] = (
                hashlib.sha256(path.read_bytes()).hexdigest() if changed else file.sha256
            )
    return checksums


def fetch(name: str) -> Path:
    """Make sure that a dataset's files are there and right, downloading what is missing.

    Parameters
    ----------
    name : str
        A key of `REGISTRY`.

    Returns
    -------
    Path
        The folder that holds its files.

    Raises
    ------
    DatasetError
        If there is no such dataset, it has no files, or they cannot be had: no mirror gives the
        right bytes, or the folder cannot be written.
    """
    entry = dataset(name)
    if not entry.sources:
        raise DatasetError(f"{name} needs no download: {entry.embedded_in} carries it.")
    folder = data_dir() / entry.folder
    for source in entry.sources:
        # A list, not a generator: every file is looked at, and every damaged one removed.
        if not all([_settle(folder / file.name, file) for file in source.files]):
            _obtain(entry, source, folder)
        elif source.personal:
            with contextlib.suppress(OSError):
                (folder / source.original).unlink()
    return folder


def _settle(path: Path, file: File) -> bool:
    """Tell whether a file is there and right; remove it when it is there and wrong."""
    with _explained(path.parent):
        if not path.is_file():
            return False
        if _is_right(path, file):
            return True
    try:
        path.unlink()
    except OSError as error:
        raise DatasetError(
            f"{path} is damaged (its SHA-256 is not {file.sha256[:12]}…) and cannot be replaced "
            f"({_reason(error)}): make its folder writable, or let GLASSBOX_DATA name another."
        ) from error
    return False


def _obtain(entry: Dataset, source: Source, folder: Path) -> None:
    """Get a source's files from the original in the folder, or else from a mirror."""
    placed = folder / source.original
    try:
        with _explained(folder):
            folder.mkdir(parents=True, exist_ok=True)
            # Made before anything is downloaded, so that a folder that cannot be written is known.
            with tempfile.TemporaryDirectory(prefix=".fetch-", dir=folder) as staging:
                contents = _from_folder(placed, source) or _from_mirrors(entry, source, folder)
                for name, content in contents.items():
                    (Path(staging) / name).write_bytes(content)
                for name in contents:
                    os.replace(Path(staging) / name, folder / name)
            if placed.name not in contents:
                placed.unlink(missing_ok=True)
    finally:
        if source.personal:
            with contextlib.suppress(OSError):
                placed.unlink()


def _from_folder(placed: Path, source: Source) -> dict[str, bytes] | None:
    """Use an original that a reader has put into the folder by hand; remove it when it is wrong."""
    if not placed.is_file():
        return None
    try:
        return _checked(placed.read_bytes(), source)
    except _WrongBytesError:
        placed.unlink()
        return None


class _WrongBytesError(Exception):
    """What was downloaded is not what the registry expects."""


def _from_mirrors(entry: Dataset, source: Source, folder: Path) -> dict[str, bytes]:
    """Download from the first mirror that gives the right bytes.

    A mirror that gave something wrong, or stopped in the middle, gets a second chance after the
    others; one that does not answer or does not have the file gets none.
    """
    failures: dict[str, str] = {}
    mirrors = list(source.mirrors)
    for _ in range(2):
        for url in tuple(mirrors):
            try:
                return _checked(_download(url, source), source)
            except (requests.exceptions.ConnectionError, requests.exceptions.HTTPError) as error:
                mirrors.remove(url)
                failures[url] = _reason(error)
            except (requests.exceptions.RequestException, _WrongBytesError) as error:
                failures[url] = _reason(error)
    tried = "; ".join(f"{url}: {reason}" for url, reason in failures.items())
    raise DatasetError(
        f"{source.original} of {entry.name} could not be downloaded ({tried}): put it into "
        f"{folder} by hand, or use the sample profile (GLASSBOX_PROFILE=sample), which needs no "
        "download."
    )


def _download(url: str, source: Source) -> bytes:
    received = io.BytesIO()
    # `disable=None` is quiet where the output is not a terminal. A bar without a total is false,
    # and pooch would not use it; pooch sets the real total from the answer's header.
    with tqdm(desc=source.original, total=1, unit="B", unit_scale=True, disable=None) as bar:
        # A server must not pack the bytes that are to be compared, nor unpack a .gz on its way.
        get = pooch.HTTPDownloader(
            progressbar=bar, timeout=TIMEOUT, headers={"Accept-Encoding": "identity"}
        )
        get(url, received, None)
    return received.getvalue()


def _checked(original: bytes, source: Source) -> dict[str, bytes]:
    """Return the bytes of each file of a source, all of them the right ones."""
    if source.sha256 and hashlib.sha256(original).hexdigest() != source.sha256:
        raise _WrongBytesError(f"{len(original):,} bytes with another SHA-256 than the original's")
    if source.unpack is None:
        contents = {source.files[0].name: original}
    else:
        try:
            contents = source.unpack(original, tuple(file.name for file in source.files))
        except (zipfile.BadZipFile, zlib.error, EOFError, KeyError, ValueError) as error:
            raise _WrongBytesError(f"{len(original):,} bytes that are not the original") from error
    for file in source.files:
        content = contents[file.name]
        if len(content) != file.size:
            raise _WrongBytesError(
                f"{len(content):,} bytes of {file.name} in place of {file.size:,}"
            )
        if hashlib.sha256(content).hexdigest() != file.sha256:
            raise _WrongBytesError(f"{file.name} with another SHA-256")
    return contents


@contextlib.contextmanager
def _explained(folder: Path) -> Iterator[None]:
    """Turn an error of the file system into one sentence."""
    try:
        yield
    except OSError as error:
        full = error.errno in (errno.ENOSPC, errno.EDQUOT)
        advice = "free some space" if full else "make it a folder that you can write"
        raise DatasetError(
            f"The data folder {folder} cannot be used ({_reason(error)}): {advice}, or let "
            "GLASSBOX_DATA name another."
        ) from error


def _reason(error: Exception) -> str:
    """Say in a few words what went wrong, without addresses of Python objects."""
    if isinstance(error, requests.exceptions.HTTPError) and error.response is not None:
        return f"HTTP {error.response.status_code}"
    if isinstance(error, requests.exceptions.Timeout):
        return "no answer in time"
    if isinstance(error, requests.exceptions.ConnectionError):
        return "no connection"
    if isinstance(error, requests.exceptions.RequestException):
        return "the transfer broke off"
    if isinstance(error, OSError) and error.strerror:
        return error.strerror.lower()
    return str(error)
