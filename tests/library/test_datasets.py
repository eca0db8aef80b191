"""What `glassbox.datasets` and `glassbox.downloads` promise, against a server in this process."""

from __future__ import annotations

import contextlib
import errno
import gzip
import hashlib
import io
import os
import shutil
import socket
import struct
import sys
import tempfile
import threading
import zipfile
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pandas as pd
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st

from glassbox import datasets, downloads
from glassbox.downloads import COMPAS_COLUMNS, Dataset, DatasetError, File, Source

CONTENT = b"Everything that is deep loves the mask.\n" * 500
SHARED = Path(
    os.environ.get("GLASSBOX_DATA") or Path(__file__).parents[2].parent / "shared" / "data"
)
needs_shared_data = pytest.mark.skipif(
    not (SHARED / "compas").is_dir(), reason="the data of the full profile are not here"
)


# --- The server, the data folder and a registry of one's own ------------------------------------


class Server:
    """Mirrors on 127.0.0.1: each path answers as it is told."""

    def __init__(self) -> None:
        self.asked: list[str] = []
        self.answers: dict[str, list[Callable[[BaseHTTPRequestHandler], None]]] = {}
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                outer.asked.append(self.path)
                answers = outer.answers[self.path]
                with contextlib.suppress(ConnectionError):
                    (answers.pop(0) if len(answers) > 1 else answers[0])(self)

            def log_message(self, *args: object) -> None:
                pass

        self.http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.http.daemon_threads = True
        threading.Thread(target=self.http.serve_forever, args=(0.01,), daemon=True).start()

    def mirror(self, path: str, *answers: Callable[[BaseHTTPRequestHandler], None]) -> str:
        """Answer at a path, in turn, the last one for ever; return the address."""
        self.answers[f"/{path}"] = list(answers)
        return f"http://127.0.0.1:{self.http.server_port}/{path}"


def serves(content: bytes, states: int | None = None) -> Callable[[BaseHTTPRequestHandler], None]:
    """Send `content`, stating a length that may be another one, and close the connection."""

    def answer(handler: BaseHTTPRequestHandler) -> None:
        handler.send_response(200)
        handler.send_header("Content-Length", str(len(content) if states is None else states))
        handler.end_headers()
        handler.wfile.write(content)
        handler.close_connection = True

    return answer


def fails(status: int) -> Callable[[BaseHTTPRequestHandler], None]:
    return lambda handler: handler.send_error(status)


def resets(handler: BaseHTTPRequestHandler) -> None:
    """Send a part, then reset the connection, as a cable that is pulled does."""
    handler.send_response(200)
    handler.send_header("Content-Length", str(len(CONTENT)))
    handler.end_headers()
    handler.wfile.write(CONTENT[:1000])
    handler.wfile.flush()
    linger = struct.pack("ii", 1, 0)
    handler.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
    handler.connection.close()
    handler.close_connection = True


@pytest.fixture
def server() -> Iterator[Server]:
    running = Server()
    yield running
    running.http.shutdown()
    running.http.server_close()


@pytest.fixture
def refusing() -> str:
    """Return an address at which nobody listens."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return f"http://127.0.0.1:{listener.getsockname()[1]}/book.txt"


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Give each test an empty data folder, the sample profile and no proxy."""
    place = tmp_path / "data"
    monkeypatch.setenv("GLASSBOX_DATA", str(place))
    monkeypatch.delenv("GLASSBOX_PROFILE", raising=False)
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.setattr(downloads, "TIMEOUT", 5)
    return place


def file_of(name: str, content: bytes) -> File:
    return File(name, hashlib.sha256(content).hexdigest(), len(content))


@pytest.fixture
def register(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Return a function that puts a dataset of one's own into the registry."""

    def put(*sources: Source, name: str = "book") -> None:
        entry = Dataset(name, "", "full", "", "", "", folder=name, sources=sources)
        monkeypatch.setitem(downloads.REGISTRY, name, entry)

    return put


@pytest.fixture
def book(register: Callable[..., None]) -> Callable[..., None]:
    """Return a function that registers the dataset ``book``, one file, at these mirrors."""
    return lambda *mirrors: register(Source("book.txt", mirrors, (file_of("book.txt", CONTENT),)))


def everything_in(place: Path) -> set[str]:
    return {str(p.relative_to(place)) for p in place.rglob("*") if not p.is_dir()}


# --- Profile and folder --------------------------------------------------------------------------


def test_the_profile_is_sample_unless_the_environment_names_another(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    assert datasets.profile() == "sample"
    monkeypatch.setenv("GLASSBOX_PROFILE", "full")
    assert datasets.profile() == "full"


def test_an_unknown_profile_is_one_clear_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GLASSBOX_PROFILE", "small")
    with pytest.raises(DatasetError, match=r"^GLASSBOX_PROFILE must be .* but it is 'small'\.$"):
        datasets.digits()


def test_the_data_folder_is_the_users_cache_unless_the_environment_names_another(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert datasets.data_dir() == folder
    monkeypatch.setenv("GLASSBOX_DATA", "~/somewhere")
    assert datasets.data_dir() == Path.home() / "somewhere"
    monkeypatch.delenv("GLASSBOX_DATA")
    assert datasets.data_dir().name == "glassbox"
    assert datasets.data_dir().is_absolute()


# --- The registry --------------------------------------------------------------------------------


@pytest.mark.parametrize("entry", list(downloads.REGISTRY.values()), ids=lambda e: e.name)
def test_every_dataset_says_what_it_is_and_where_it_comes_from(entry: Dataset) -> None:
    assert entry.title
    assert entry.licence
    assert entry.terms
    assert entry.citation
    assert (entry.profile == "sample") == bool(entry.embedded_in) == (not entry.sources)
    for source in entry.sources:
        assert source.mirrors
        assert all(url.endswith("/" + source.original) for url in source.mirrors)
        assert all(len(bytes.fromhex(f.sha256)) == 32 and f.size > 0 for f in source.files)
        assert source.unpack or [f.name for f in source.files] == [source.original]


def test_mnist_has_more_than_one_mirror() -> None:
    assert all(len(source.mirrors) >= 3 for source in downloads.REGISTRY["mnist"].sources)


def test_an_unknown_dataset_names_the_nearest() -> None:
    with pytest.raises(DatasetError, match="no dataset 'mnits'; did you mean 'mnist'"):
        downloads.fetch("mnits")
    with pytest.raises(DatasetError, match="no dataset 'qqq'; there are digits, .*, compas"):
        downloads.fetch("qqq")


def test_what_a_distribution_carries_is_not_fetched() -> None:
    with pytest.raises(DatasetError, match="digits needs no download: scikit-learn carries it"):
        downloads.fetch("digits")


# --- Downloads -----------------------------------------------------------------------------------


def test_a_download_leaves_the_right_file_and_nothing_else(
    server: Server, book: Callable[..., None], folder: Path
) -> None:
    book(server.mirror("a", serves(CONTENT)))
    assert downloads.fetch("book") == folder / "book"
    assert (folder / "book" / "book.txt").read_bytes() == CONTENT
    assert everything_in(folder) == {"book/book.txt"}
    assert [p.name for p in (folder / "book").iterdir()] == ["book.txt"]


def test_what_is_there_is_not_asked_for_again(server: Server, book: Callable[..., None]) -> None:
    book(server.mirror("a", serves(CONTENT)))
    downloads.fetch("book")
    downloads.fetch("book")
    assert server.asked == ["/a"]


BAD_ANSWERS = {
    "truncated": serves(CONTENT[:-1000], states=len(CONTENT)),
    "shorter, and says so": serves(CONTENT[:-1000]),
    "empty": serves(b""),
    "longer": serves(CONTENT + b"!"),
    "wrong checksum": serves(CONTENT[:-1] + b"?"),
    "404": fails(404),
    "503": fails(503),
    "interrupted": resets,
}


@pytest.mark.parametrize("bad", BAD_ANSWERS.values(), ids=BAD_ANSWERS)
def test_after_a_bad_answer_the_next_mirror_is_tried(
    server: Server,
    book: Callable[..., None],
    folder: Path,
    bad: Callable[[BaseHTTPRequestHandler], None],
) -> None:
    book(server.mirror("bad", bad), server.mirror("good", serves(CONTENT)))
    downloads.fetch("book")
    assert server.asked == ["/bad", "/good"]
    assert (folder / "book" / "book.txt").read_bytes() == CONTENT


@pytest.mark.parametrize("bad", BAD_ANSWERS.values(), ids=BAD_ANSWERS)
def test_bad_answers_only_leave_no_file_and_say_what_to_do(
    server: Server,
    book: Callable[..., None],
    folder: Path,
    bad: Callable[[BaseHTTPRequestHandler], None],
) -> None:
    book(server.mirror("bad", bad))
    with pytest.raises(DatasetError) as raised:
        downloads.fetch("book")
    message = str(raised.value)
    assert message.startswith("book.txt of book could not be downloaded (http://127.0.0.1:")
    assert f"put it into {folder / 'book'} by hand" in message
    assert "GLASSBOX_PROFILE=sample" in message
    assert "\n" not in message
    assert "object at 0x" not in message
    assert list((folder / "book").iterdir()) == []


@pytest.mark.parametrize("bad", ["truncated", "wrong checksum", "interrupted"])
def test_a_transfer_that_went_wrong_is_tried_once_more(
    server: Server, book: Callable[..., None], folder: Path, bad: str
) -> None:
    book(server.mirror("a", BAD_ANSWERS[bad], serves(CONTENT)))
    downloads.fetch("book")
    assert server.asked == ["/a", "/a"]
    assert (folder / "book" / "book.txt").read_bytes() == CONTENT


def test_a_mirror_without_the_file_is_asked_once(server: Server, book: Callable[..., None]) -> None:
    book(server.mirror("a", fails(404)), server.mirror("b", fails(500)))
    with pytest.raises(DatasetError, match="/a: HTTP 404; .*/b: HTTP 500"):
        downloads.fetch("book")
    assert server.asked == ["/a", "/b"]


def test_after_a_refused_connection_the_next_mirror_is_tried(
    server: Server, book: Callable[..., None], refusing: str, folder: Path
) -> None:
    book(refusing, server.mirror("good", serves(CONTENT)))
    downloads.fetch("book")
    assert (folder / "book" / "book.txt").read_bytes() == CONTENT


def test_without_a_network_the_message_names_file_folder_and_the_sample_profile(
    book: Callable[..., None], refusing: str, folder: Path
) -> None:
    book(refusing)
    with pytest.raises(DatasetError) as raised:
        downloads.fetch("book")
    assert str(raised.value) == (
        f"book.txt of book could not be downloaded ({refusing}: no connection): put it into "
        f"{folder / 'book'} by hand, or use the sample profile (GLASSBOX_PROFILE=sample), which "
        "needs no download."
    )


def test_a_mirror_that_never_answers_is_left(
    server: Server, book: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(downloads, "TIMEOUT", 0.2)
    done = threading.Event()
    book(server.mirror("silent", lambda handler: done.wait(10) and None))
    try:
        with pytest.raises(DatasetError, match="/silent: no answer in time"):
            downloads.fetch("book")
    finally:
        done.set()


def test_an_interrupted_process_leaves_no_file(
    book: Callable[..., None], folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupt(url: str, source: Source) -> bytes:
        raise KeyboardInterrupt

    monkeypatch.setattr(downloads, "_download", interrupt)
    book("http://127.0.0.1:1/never")
    with pytest.raises(KeyboardInterrupt):
        downloads.fetch("book")
    assert list((folder / "book").iterdir()) == []


def test_two_at_once_both_get_the_file(server: Server, book: Callable[..., None]) -> None:
    book(server.mirror("a", serves(CONTENT)))
    folders: list[Path] = []
    workers = [
        threading.Thread(target=lambda: folders.append(downloads.fetch("book"))) for _ in range(8)
    ]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert len(folders) == 8
    assert [p.name for p in folders[0].iterdir()] == ["book.txt"]


# --- The folder ----------------------------------------------------------------------------------


def put(path: Path, content: bytes) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    return path


@pytest.mark.parametrize("damaged", [CONTENT[:-7], CONTENT[:-1] + b"?", b""])
def test_a_damaged_file_is_replaced(
    server: Server, book: Callable[..., None], folder: Path, damaged: bytes
) -> None:
    path = put(folder / "book" / "book.txt", damaged)
    book(server.mirror("a", serves(CONTENT)))
    downloads.fetch("book")
    assert path.read_bytes() == CONTENT


def test_a_file_damaged_after_it_was_found_right_is_noticed(
    server: Server, book: Callable[..., None], folder: Path
) -> None:
    book(server.mirror("a", serves(CONTENT)))
    path = downloads.fetch("book") / "book.txt"
    downloads.fetch("book")
    path.write_bytes(CONTENT[:-1] + b"?")
    os.utime(path, ns=(0, 0))
    downloads.fetch("book")
    assert path.read_bytes() == CONTENT


def test_a_right_file_is_read_once_in_a_process(
    book: Callable[..., None], folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    put(folder / "book" / "book.txt", CONTENT)
    book("http://127.0.0.1:1/never")
    downloads.fetch("book")
    monkeypatch.setattr(Path, "read_bytes", lambda self: pytest.fail("was read again"))
    downloads.fetch("book")


def test_a_damaged_file_is_removed_even_when_no_other_can_be_had(
    book: Callable[..., None], refusing: str, folder: Path
) -> None:
    path = put(folder / "book" / "book.txt", CONTENT[:-7])
    book(refusing)
    with pytest.raises(DatasetError, match="could not be downloaded"):
        downloads.fetch("book")
    assert not path.exists()


@pytest.fixture
def read_only(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[bytes | None], Path]]:
    """Return a function that makes a data folder which this process really cannot write.

    Permissions do not bind root: a test that runs as root becomes an ordinary user for a while.
    """
    root = os.geteuid() == 0
    place = Path(tempfile.mkdtemp(prefix="glassbox-read-only-"))
    home = place / "book"
    home.mkdir()

    def make(content: bytes | None) -> Path:
        if content is not None:
            put(home / "book.txt", content).chmod(0o444)
        home.chmod(0o555)
        place.chmod(0o555)
        monkeypatch.setenv("GLASSBOX_DATA", str(place))
        if root:
            os.seteuid(65534)
        with pytest.raises(PermissionError):
            (home / "probe").touch()
        return home

    yield make
    if root:
        os.seteuid(0)
    place.chmod(0o755)
    home.chmod(0o755)
    shutil.rmtree(place)


needs_permissions = pytest.mark.skipif(
    not hasattr(os, "geteuid"), reason="needs the permissions of a POSIX system"
)


@needs_permissions
def test_a_read_only_folder_with_the_right_files_is_used_as_it_is(
    book: Callable[..., None], read_only: Callable[[bytes | None], Path]
) -> None:
    home = read_only(CONTENT)
    book("http://127.0.0.1:1/never")
    assert downloads.fetch("book") == home


@needs_permissions
def test_a_read_only_folder_without_the_file_is_one_clear_sentence_and_no_download(
    server: Server, book: Callable[..., None], read_only: Callable[[bytes | None], Path]
) -> None:
    book(server.mirror("a", serves(CONTENT)))
    home = read_only(None)
    with pytest.raises(DatasetError) as raised:
        downloads.fetch("book")
    assert str(raised.value) == (
        f"The data folder {home} cannot be used (permission denied): make it a folder that you "
        "can write, or let GLASSBOX_DATA name another."
    )
    assert server.asked == []


@needs_permissions
def test_a_damaged_file_in_a_read_only_folder_is_reported_and_left(
    server: Server, book: Callable[..., None], read_only: Callable[[bytes | None], Path]
) -> None:
    book(server.mirror("a", serves(CONTENT)))
    home = read_only(CONTENT[:-7])
    with pytest.raises(DatasetError, match=r"book\.txt is damaged .* cannot be replaced"):
        downloads.fetch("book")
    assert (home / "book.txt").read_bytes() == CONTENT[:-7]
    assert server.asked == []


def test_a_data_folder_that_is_a_file_is_one_clear_sentence(
    book: Callable[..., None], folder: Path
) -> None:
    put(folder, b"not a folder")
    book("http://127.0.0.1:1/never")
    with pytest.raises(DatasetError, match=r"cannot be used \(not a directory\)"):
        downloads.fetch("book")
    assert folder.read_bytes() == b"not a folder"


@pytest.fixture
def full_disk(monkeypatch: pytest.MonkeyPatch) -> None:
    """Make the disk full: the first half of what is written arrives, then it fails."""

    def write_bytes(self: Path, content: bytes) -> int:
        with open(self, "wb") as file:
            file.write(content[: len(content) // 2])
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(self))

    monkeypatch.setattr(Path, "write_bytes", write_bytes)


@pytest.mark.usefixtures("full_disk")
def test_a_full_disk_is_one_clear_sentence_and_leaves_nothing(
    server: Server, book: Callable[..., None], folder: Path
) -> None:
    book(server.mirror("a", serves(CONTENT)))
    with pytest.raises(DatasetError, match=r"\(no space left on device\): free some space, or"):
        downloads.fetch("book")
    assert list((folder / "book").iterdir()) == []


# --- Archives, and tables that name people -------------------------------------------------------

RATINGS, MOVIES = (
    b"userId,movieId,rating,timestamp\n1,2,4.5,99\n",
    b"movieId,title,genres\n2,M,A|B\n",
)


def archive(**members: bytes) -> bytes:
    held = io.BytesIO()
    with zipfile.ZipFile(held, "w") as opened:
        for name, content in members.items():
            opened.writestr(f"ml-latest-small/{name}.csv", content)
    return held.getvalue()


@pytest.fixture
def films(register: Callable[..., None]) -> Callable[[str], None]:
    def put_films(mirror: str) -> None:
        files = file_of("ratings.csv", RATINGS), file_of("movies.csv", MOVIES)
        source = Source("films.zip", (mirror,), files, unpack=downloads._zip_members)
        register(source, name="movielens-small")

    return put_films


def test_of_an_archive_only_the_wanted_members_are_kept(
    server: Server, films: Callable[[str], None], folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    films(server.mirror("zip", serves(archive(ratings=RATINGS, movies=MOVIES, tags=b"no"))))
    monkeypatch.setenv("GLASSBOX_PROFILE", "full")
    table = datasets.movielens()
    assert everything_in(folder) == {"movielens-small/ratings.csv", "movielens-small/movies.csv"}
    assert table.to_dict("records") == [
        {"userId": 1, "movieId": 2, "rating": 4.5, "timestamp": 99, "title": "M", "genres": "A|B"}
    ]


@pytest.mark.parametrize(
    "content",
    [
        archive(ratings=RATINGS),
        archive(ratings=RATINGS, movies=b"another"),
        archive(ratings=RATINGS, movies=MOVIES)[:-30],
        archive(ratings=RATINGS, movies=MOVIES).replace(MOVIES, MOVIES.upper()),
        b"<html>try later</html>",
    ],
    ids=["member missing", "member changed", "truncated", "corrupted inside", "not an archive"],
)
def test_an_archive_with_anything_wrong_leaves_nothing(
    server: Server, films: Callable[[str], None], folder: Path, content: bytes
) -> None:
    films(server.mirror("zip", serves(content)))
    with pytest.raises(DatasetError, match=r"films\.zip of movielens-small could not be"):
        downloads.fetch("movielens-small")
    assert everything_in(folder) == set()


def test_an_archive_put_into_the_folder_by_hand_is_used_and_removed(
    films: Callable[[str], None], refusing: str, folder: Path
) -> None:
    films(refusing)
    put(folder / "movielens-small" / "films.zip", archive(ratings=RATINGS, movies=MOVIES))
    downloads.fetch("movielens-small")
    assert everything_in(folder) == {"movielens-small/ratings.csv", "movielens-small/movies.csv"}


def court_records() -> bytes:
    """Return a table like ProPublica's: the 17 columns among others, one of them twice."""
    rows = 3
    table = pd.DataFrame({name: [f"{name} {i}" for i in range(rows)] for name in COMPAS_COLUMNS})
    table.insert(0, "name", ["jane doe", "john doe", "joan doe"])
    table.insert(3, "dob", ["1980-01-02"] * rows)
    table["c_case_number"] = "13011352CF10A"
    text = table.to_csv(index=False).replace("c_case_number", "decile_score", 1)
    return text.encode()


@pytest.fixture
def compas(register: Callable[..., None]) -> Callable[..., None]:
    def put_compas(*mirrors: str) -> None:
        original = court_records()
        table = pd.read_csv(io.BytesIO(original))[list(COMPAS_COLUMNS)]
        reduced = file_of("compas-two-years-deidentified.csv", table.to_csv(index=False).encode())
        source = Source(
            "original.csv",
            mirrors,
            (reduced,),
            unpack=downloads._without_identifiers,
            sha256=hashlib.sha256(original).hexdigest(),
            personal=True,
        )
        register(source, name="compas")

    return put_compas


def assert_names_nobody(place: Path) -> None:
    for path in place.rglob("*"):
        if path.is_file():
            assert b"doe" not in path.read_bytes(), path
            assert b"1980-01-02" not in path.read_bytes(), path
    assert not (place / "compas" / "original.csv").exists()


def test_of_court_records_only_the_columns_that_name_nobody_are_kept(
    server: Server, compas: Callable[..., None], folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    compas(server.mirror("compas", serves(court_records())))
    monkeypatch.setenv("GLASSBOX_PROFILE", "full")
    table = datasets.compas()
    assert tuple(table.columns) == COMPAS_COLUMNS
    assert table["decile_score"].tolist() == [f"decile_score {i}" for i in range(3)]
    assert everything_in(folder) == {"compas/compas-two-years-deidentified.csv"}
    assert_names_nobody(folder)


def test_court_records_put_into_the_folder_by_hand_are_reduced_and_deleted(
    compas: Callable[..., None], refusing: str, folder: Path
) -> None:
    compas(refusing)
    put(folder / "compas" / "original.csv", court_records())
    downloads.fetch("compas")
    assert everything_in(folder) == {"compas/compas-two-years-deidentified.csv"}
    put(folder / "compas" / "original.csv", court_records())
    downloads.fetch("compas")
    assert_names_nobody(folder)


@pytest.mark.parametrize("fault", ["mirror", "reduction", "disk", "staging", "interrupt"])
def test_court_records_are_deleted_whatever_fails(
    server: Server,
    compas: Callable[..., None],
    folder: Path,
    monkeypatch: pytest.MonkeyPatch,
    request: pytest.FixtureRequest,
    fault: str,
) -> None:
    def explode(*args: object, **kwargs: object) -> None:
        raise {"staging": OSError(errno.EROFS, "Read-only file system")}.get(
            fault, KeyboardInterrupt()
        )

    compas(server.mirror("compas", serves(court_records().replace(b"jane", b"june"))))
    original = court_records() + (b"x" if fault == "mirror" else b"")
    put(folder / "compas" / "original.csv", original)
    if fault == "reduction":
        monkeypatch.setattr("glassbox.downloads.COMPAS_COLUMNS", ("sex", "no such column"))
    if fault == "disk":
        request.getfixturevalue("full_disk")
    if fault == "staging":
        monkeypatch.setattr(tempfile, "TemporaryDirectory", explode)
    if fault == "interrupt":
        monkeypatch.setattr(downloads, "_checked", explode)
    with pytest.raises((DatasetError, KeyboardInterrupt)):
        downloads.fetch("compas")
    assert everything_in(folder) == set()


@needs_shared_data
def test_the_real_table_with_columns_added_reduces_to_the_published_checksum() -> None:
    file = downloads.REGISTRY["compas"].files[0]
    table = pd.read_csv(SHARED / "compas" / file.name)
    table.insert(1, "name", "jane doe")
    table["decile_score.1"] = 0  # the original has this column twice
    text = table.to_csv(index=False).replace("decile_score.1", "decile_score")
    reduced = downloads._without_identifiers(text.encode(), (file.name,))[file.name]
    assert hashlib.sha256(reduced).hexdigest() == file.sha256


# --- Checksums for the book's cache --------------------------------------------------------------


def test_file_checksums_follow_the_bytes_that_are_there(
    book: Callable[..., None], folder: Path
) -> None:
    book("http://127.0.0.1:1/never")
    assert downloads.file_checksums("sample") == {}
    expected = hashlib.sha256(CONTENT).hexdigest()
    assert downloads.file_checksums("full")["book/book.txt"] == expected
    put(folder / "book" / "book.txt", b"changed")
    changed = downloads.file_checksums("full")
    assert changed["book/book.txt"] == hashlib.sha256(b"changed").hexdigest()
    assert "mnist/t10k-labels-idx1-ubyte.gz" in changed


# --- idx files -----------------------------------------------------------------------------------


def idx(items: torch.Tensor) -> bytes:
    header = bytes([0, 0, 8, items.ndim]) + struct.pack(f">{items.ndim}I", *items.shape)
    return gzip.compress(header + bytes(items.flatten().tolist()), compresslevel=1)


@settings(max_examples=30, deadline=None)
@given(shape=st.lists(st.integers(0, 5), min_size=1, max_size=4), seed=st.integers(0, 99))
def test_an_idx_file_is_read_as_it_was_written(shape: list[int], seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    items = torch.randint(0, 256, shape, generator=generator).to(torch.uint8)
    with tempfile.TemporaryDirectory() as place:
        path = put(Path(place) / "x.gz", idx(items))
        read = datasets.read_idx(path)
    assert read.dtype == torch.uint8
    assert torch.equal(read, items)


IMAGES = torch.arange(24, dtype=torch.uint8).view(2, 3, 4)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (idx(IMAGES)[:-9], "is not a complete gzip file"),
        (idx(IMAGES)[:5], "is not a complete gzip file"),
        (b"", "but it begins with nothing"),
        (b"plain text", "is not a complete gzip file"),
        (gzip.compress(b"\0\0\x08"), "begins with 00 00 08"),
        (gzip.compress(b"\0\0\x08\x03\0\0\0\x02"), "must begin like an idx file"),
        (gzip.compress(b"\0\0\x0d\x01\0\0\0\0"), "begins with 00 00 0d 01"),
        (gzip.compress(gzip.decompress(idx(IMAGES))[:-1]), r"24 items .*\(2, 3, 4\).* holds 23"),
        (gzip.compress(gzip.decompress(idx(IMAGES)) + b"x"), "must hold 24 items .* holds 25"),
    ],
)
def test_a_damaged_idx_file_is_one_clear_sentence(
    tmp_path: Path, content: bytes, message: str
) -> None:
    path = put(tmp_path / "images.gz", content)
    with pytest.raises(DatasetError, match=rf"images\.gz .*{message}"):
        datasets.read_idx(path)


# --- Digits --------------------------------------------------------------------------------------


def digest(sets: datasets.Digits) -> str:
    return hashlib.sha256(b"".join(t.numpy().tobytes() for t in sets)).hexdigest()


def test_sample_digits_have_the_promised_shapes_types_and_range() -> None:
    sets = datasets.digits()
    for images, labels, n in zip(sets[::2], sets[1::2], (12_000, 2_100, 2_079), strict=True):
        assert images.shape == (n, 1, 28, 28)
        assert images.dtype == torch.float32
        assert images.min() == 0
        assert images.max() == 1
        assert labels.shape == (n,)
        assert labels.dtype == torch.int64
        assert labels.unique().tolist() == list(range(10))
        assert images.device.type == labels.device.type == "cpu"


def test_no_original_digit_crosses_between_the_parts() -> None:
    parts = [set(ids.tolist()) for ids in datasets.digit_sources()]
    assert [len(part) for part in parts] == [1200, 300, 297]
    assert len(set.union(*parts)) == 1797


def test_each_image_has_the_label_of_its_original_and_each_original_its_copies() -> None:
    from sklearn.datasets import load_digits

    target = torch.tensor(load_digits().target)
    sets = datasets.digits()
    for labels, ids, copies in zip(sets[1::2], datasets.digit_sources(), (10, 7, 7), strict=True):
        assert torch.equal(labels, target[ids])
        assert set(ids.bincount().tolist()) == {0, copies}


def test_every_part_has_the_same_share_of_each_digit() -> None:
    shares = torch.stack([y.bincount() / len(y) for y in datasets.digits()[1::2]])
    assert (shares.amax(0) - shares.amin(0)).max() < 0.005


def test_an_image_shows_its_original_and_no_two_are_alike() -> None:
    from sklearn.datasets import load_digits

    sets, (ids, _, _) = datasets.digits(), datasets.digit_sources()
    assert len(sets.x_train.flatten(1).unique(dim=0)) == len(ids)
    originals = torch.tensor(load_digits().images, dtype=torch.float32)[:, None]
    centred = F.pad(F.interpolate(originals, size=20, mode="bilinear"), (4, 4, 4, 4)).flatten(1)
    centred = F.normalize(centred - centred.mean(1, keepdim=True))
    images = sets.x_train.flatten(1)
    likeness = F.normalize(images - images.mean(1, keepdim=True)) @ centred.T
    own = likeness[torch.arange(len(ids)), ids]
    assert own.median() > 0.6
    assert (own > likeness.mean(1)).float().mean() > 0.99


def test_sample_digits_look_like_mnist() -> None:
    images = datasets.digits().x_train[:, 0]
    border = torch.ones(28, 28, dtype=torch.bool)
    border[2:-2, 2:-2] = False
    assert images[:, border].mean() < 0.01
    assert images.flatten(1).amax(1).min() > 0.9
    ink = images > 0.5
    assert 0.08 < ink.float().mean() < 0.22
    between = ((images > 0.1) & (images < 0.9)).float().mean()
    assert between < 0.12
    for axis in (1, 2):
        place = (images.sum(3 - axis) * torch.arange(28)).sum(1) / images.sum((1, 2))
        assert abs(place.mean() - 13.5) < 0.7


def test_sample_digits_are_the_same_whatever_the_threads_and_the_global_seed() -> None:
    before = torch.get_num_threads()
    digests = set()
    try:
        for threads in (1, 2):
            torch.set_num_threads(threads)
            torch.manual_seed(threads)
            datasets._enlarged_digits.cache_clear()
            digests.add(digest(datasets.digits()))
    finally:
        torch.set_num_threads(before)
    assert len(digests) == 1


def test_making_digits_leaves_the_global_generator_alone() -> None:
    datasets._enlarged_digits.cache_clear()
    torch.manual_seed(1)
    expected = torch.rand(3)
    torch.manual_seed(1)
    datasets.digits()
    assert torch.equal(torch.rand(3), expected)


def test_what_a_caller_does_to_the_digits_stays_with_the_caller() -> None:
    before = digest(datasets.digits())
    for tensor in (*datasets.digits(), *datasets.digit_sources()):
        tensor.zero_()
    assert digest(datasets.digits()) == before
    assert all(ids.any() for ids in datasets.digit_sources())


def test_a_linear_model_learns_the_sample_digits_and_what_it_learns_carries_over() -> None:
    sets = datasets.digits()
    weights = torch.zeros(784, 10, requires_grad=True)
    bias = torch.zeros(10, requires_grad=True)
    optimizer = torch.optim.SGD([weights, bias], lr=0.1)
    for rows in torch.arange(12_000).repeat(3).split(64):
        logits = sets.x_train[rows].flatten(1) @ weights + bias
        F.cross_entropy(logits, sets.y_train[rows]).backward()
        optimizer.step()
        optimizer.zero_grad()
    for images, labels in (sets[2:4], sets[4:6]):
        right = (images.flatten(1) @ weights + bias).argmax(1) == labels
        assert 0.82 < right.float().mean() < 0.97


def test_full_digits_are_mnist_with_its_last_ten_thousand_for_validation(
    server: Server, register: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    sources = []
    for part, n in (("train", 60_000), ("t10k", 10_000)):
        images = torch.zeros(n, 28, 28, dtype=torch.uint8)
        images[:, 0, 0] = torch.arange(n) // 256
        images[:, 0, 1] = torch.arange(n) % 256
        labels = (torch.arange(n) % 10).to(torch.uint8)
        for kind, items in (("images-idx3", images), ("labels-idx1", labels)):
            name = f"{part}-{kind}-ubyte.gz"
            content = gzip.compress(
                bytes([0, 0, 8, items.ndim])
                + struct.pack(f">{items.ndim}I", *items.shape)
                + items.numpy().tobytes(),
                compresslevel=1,
            )
            mirror = server.mirror(name, serves(content))
            sources.append(Source(name, (mirror,), (file_of(name, content),)))
    register(*sources, name="mnist")
    monkeypatch.setenv("GLASSBOX_PROFILE", "full")
    sets = datasets.digits()
    starts, sizes = (0, 50_000, 0), (50_000, 10_000, 10_000)
    for images, labels, start, n in zip(sets[::2], sets[1::2], starts, sizes, strict=True):
        assert images.shape == (n, 1, 28, 28)
        assert images.dtype == torch.float32
        numbers = (images[:, 0, 0, 0] * 255 * 256 + images[:, 0, 0, 1] * 255).round().long()
        assert torch.equal(numbers, start + torch.arange(n))
        assert torch.equal(labels, (start + torch.arange(n)) % 10)
    ids = torch.cat(datasets.digit_sources())
    assert torch.equal(ids, torch.arange(70_000))


@needs_shared_data
def test_the_data_folder_beside_the_repository_works_as_it_is(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("GLASSBOX_DATA", str(SHARED))
    monkeypatch.setenv("GLASSBOX_PROFILE", "full")
    before = {path: path.stat().st_mtime_ns for path in SHARED.rglob("*")}
    assert all(downloads.is_present(downloads.dataset(n)) for n in downloads.REGISTRY)
    sets = datasets.digits()
    assert [len(labels) for labels in sets[1::2]] == [50_000, 10_000, 10_000]
    assert sets.y_train[:5].tolist() == [5, 0, 4, 1, 9]
    assert (len(datasets.text()), len(set(datasets.text()))) == (600_893, 84)
    films = datasets.movielens()
    assert (len(films), films.userId.nunique(), films.title.isna().sum()) == (100_836, 610, 0)
    records = datasets.compas()
    assert (records.shape, tuple(records.columns)) == ((7_214, 17), COMPAS_COLUMNS)
    assert {path: path.stat().st_mtime_ns for path in SHARED.rglob("*")} == before


# --- Text, tables, photographs -------------------------------------------------------------------


def test_the_sample_text_is_pythons_language_reference() -> None:
    assert datasets.text() == datasets.language_reference()
    assert len(datasets.text()) > 300_000
    assert "list comprehension" in datasets.text()


@pytest.mark.parametrize("load", [datasets.nietzsche, datasets.movielens, datasets.compas])
def test_the_sample_profile_downloads_nothing(load: Callable[[], object], folder: Path) -> None:
    with pytest.raises(DatasetError, match=r"sample profile downloads nothing: .*PROFILE=full"):
        load()
    assert not folder.exists()


def test_photographs_come_without_a_network(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(socket.socket, "connect", lambda *a: pytest.fail("used the network"))
    pictures = datasets.photographs()
    assert len(pictures) == len(datasets.PHOTOGRAPHS)
    for name, picture in pictures.items():
        assert picture.ndim == 3, name
        assert picture.shape[0] == 3, name
        assert min(picture.shape[1:]) >= 300, name
        assert picture.dtype == torch.float32, name
        assert 0 <= picture.min() < picture.max() <= 1, name
    assert torch.equal(pictures["camera"][0], pictures["camera"][2])
    assert not torch.equal(pictures["astronaut"][0], pictures["astronaut"][2])


def test_a_photograph_that_is_not_installed_is_one_clear_sentence(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(datasets, "PHOTOGRAPHS", ("eagle.png",))
    with pytest.raises(DatasetError, match=r"photograph eagle\.png is not in the installed"):
        datasets.photographs()


# --- The command ---------------------------------------------------------------------------------


def test_list_shows_every_dataset_and_whether_it_is_there(
    server: Server, book: Callable[..., None], folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    book(server.mirror("a", serves(CONTENT)))
    assert datasets.main(["list"]) == 0
    before = capsys.readouterr().out
    assert f"not present in {folder / 'book'}" in before
    for entry in downloads.REGISTRY.values():
        for said in (entry.name, entry.title, entry.licence, entry.citation):
            assert said in before
    assert "https://ossci-datasets.s3.amazonaws.com/mnist/train-images-idx3-ubyte.gz" in before
    assert "carried by scikit-learn" in before
    downloads.fetch("book")
    assert datasets.main(["list"]) == 0
    assert f"  present in {folder / 'book'}" in capsys.readouterr().out


def test_fetch_says_where_the_files_are_and_is_quiet_without_a_terminal(
    server: Server, book: Callable[..., None], folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    book(server.mirror("a", serves(CONTENT)))
    assert datasets.main(["fetch", "book"]) == 0
    printed = capsys.readouterr()
    assert printed.out == f"book: in {folder / 'book'}\n"
    assert printed.err == ""


def test_fetch_shows_progress_in_a_terminal(
    server: Server, book: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    monkeypatch.setattr(sys, "stderr", Terminal())
    book(server.mirror("a", serves(CONTENT)))
    assert datasets.main(["fetch", "book"]) == 0
    shown = sys.stderr.getvalue()  # type: ignore[attr-defined]
    assert "book.txt" in shown
    assert "100%" in shown
    assert "20.0k/20.0k" in shown


def test_fetch_of_all_goes_on_after_a_failure_and_reports_it(
    server: Server,
    register: Callable[..., None],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(downloads, "REGISTRY", {"digits": downloads.REGISTRY["digits"]})
    monkeypatch.setattr(datasets, "REGISTRY", downloads.REGISTRY)
    for name, answer in (("first", fails(404)), ("second", serves(CONTENT))):
        source = Source("b.txt", (server.mirror(name, answer),), (file_of("b.txt", CONTENT),))
        register(source, name=name)
    assert datasets.main(["fetch"]) == 1
    printed = capsys.readouterr()
    assert printed.out.startswith("digits: carried by scikit-learn\nsecond: in ")
    assert printed.err.startswith("b.txt of first could not be downloaded")
    assert printed.err.count("\n") == 1


def test_fetch_of_an_unknown_name_and_a_wrong_command_have_their_exit_codes(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert datasets.main(["fetch", "mnits"]) == 1
    assert "did you mean 'mnist'" in capsys.readouterr().err
    with pytest.raises(SystemExit) as stopped:
        datasets.main(["fletch"])
    assert stopped.value.code == 2


def test_an_interrupted_fetch_ends_with_130(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def interrupt(name: str) -> Path:
        raise KeyboardInterrupt

    monkeypatch.setattr(datasets, "fetch", interrupt)
    assert datasets.main(["fetch", "mnist"]) == 130
    assert capsys.readouterr().err == "Interrupted; what was complete is kept.\n"
