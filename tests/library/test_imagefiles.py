"""`glassbox.imagefiles`: which files are found, their labels, and reading them, good and bad."""

import re

import numpy as np
import pytest
import torch
from PIL import Image

from glassbox.imagefiles import ImageError, check_names, find_images, label_of, read_image


def save(path, height=6, width=8, seed=0, mode="RGB"):
    path.parent.mkdir(parents=True, exist_ok=True)
    shape = (height, width, 3) if mode == "RGB" else (height, width)
    pixels = np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8)
    Image.fromarray(pixels).save(path)
    return pixels


def test_pictures_are_found_at_every_depth_in_the_order_of_their_names(tmp_path):
    for name in ("b/2.PNG", "a/1.jpg", "c.png", "a/b/0.jpeg"):
        save(tmp_path / name)
    (tmp_path / "notes.txt").write_text("no picture")
    save(tmp_path / ".hidden.png")
    (tmp_path / "folder.png").mkdir()
    names = [path.relative_to(tmp_path).as_posix() for path in find_images(tmp_path)]
    assert names == ["a/1.jpg", "a/b/0.jpeg", "b/2.PNG", "c.png"]


@pytest.mark.parametrize(
    ("name", "pattern", "label"),
    [
        ("yorkshire_terrier_42.jpg", r"([^/]+)_\d+\.jpg$", "yorkshire_terrier"),
        ("train/cat/7.png", r"([^/]+)/[^/]+$", "cat"),
        ("7-nine.png", r"^\d+-(\w+)", "nine"),
    ],
)
def test_a_label_is_what_the_group_finds(name, pattern, label):
    assert label_of(name, pattern) == label


def test_a_picture_is_read_as_numbers_from_0_to_1(tmp_path):
    pixels = save(tmp_path / "a.png", 5, 7)
    image = read_image(tmp_path / "a.png")
    assert image.shape == (3, 5, 7)
    assert image.dtype == torch.float32
    assert torch.equal(image, torch.from_numpy(pixels).permute(2, 0, 1) / 255)
    grey = save(tmp_path / "grey.png", 5, 7, mode="L")
    assert torch.equal(read_image(tmp_path / "grey.png", 1)[0], torch.from_numpy(grey) / 255)
    assert read_image(tmp_path / "grey.png").shape == (3, 5, 7)


def test_a_photograph_taken_sideways_is_turned_upright(tmp_path):
    image = Image.fromarray(np.zeros((4, 9, 3), dtype=np.uint8))
    exif = image.getexif()
    exif[0x0112] = 6  # the camera was turned by a quarter
    image.save(tmp_path / "a.jpg", exif=exif)
    assert read_image(tmp_path / "a.jpg").shape == (3, 9, 4)


def test_a_picture_with_more_than_8_bits_is_refused_rather_than_cut_off(tmp_path):
    Image.fromarray(np.full((2, 2), 3000, dtype=np.uint16)).save(tmp_path / "x.png")
    with pytest.raises(ImageError, match="x.png must have 8 bits a channel.*'I;16'"):
        read_image(tmp_path / "x.png", 1)


@pytest.mark.parametrize("content", [b"", b"no picture at all", b"\x89PNG\r\n\x1a\n1234"])
def test_a_file_that_is_no_picture_is_named(tmp_path, content):
    (tmp_path / "bad.png").write_bytes(content)
    with pytest.raises(ImageError, match=r"bad\.png cannot be read as a picture: [^\n]+\.$"):
        read_image(tmp_path / "bad.png")


def test_half_a_picture_is_named(tmp_path):
    save(tmp_path / "half.png", 40, 40)
    content = (tmp_path / "half.png").read_bytes()
    (tmp_path / "half.png").write_bytes(content[: len(content) // 2])
    with pytest.raises(ImageError, match=r"half\.png cannot be read as a picture: [^\n]+\.$"):
        read_image(tmp_path / "half.png")


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (
            lambda: label_of("cat.png", r"_(\d+)"),
            ValueError,
            r"pattern must find a label in each file name, but '_(\\d+)' finds none in 'cat.png'.",
        ),
        (
            lambda: label_of("cat.png", "cat"),
            ValueError,
            "pattern must have one group in parentheses, the label, but 'cat' has 0.",
        ),
        (
            lambda: label_of("cat.png", "(c)(a)"),
            ValueError,
            "pattern must have one group in parentheses, the label, but '(c)(a)' has 2.",
        ),
        (
            lambda: label_of("cat.png", "(cat"),
            ValueError,
            "pattern must be a regular expression, but '(cat' is none: missing ), unterminated "
            "subpattern at position 0.",
        ),
        (
            lambda: check_names(["a_1", "b", "c", "d", "e"], r"(\w)_\d"),
            ValueError,
            r"pattern must find a label in each file name, but '(\\w)_\\d' finds none in 4 of 5: "
            "b, c, d, ….",
        ),
        (lambda: read_image("x.png", 2), ValueError, "channels must be 1 or 3, but it is 2."),
        (
            lambda: find_images("/no/such/folder"),
            FileNotFoundError,
            "folder must be a folder that exists, but /no/such/folder is none.",
        ),
    ],
)
def test_bad_input_is_answered_in_one_sentence(call, error, message):
    with pytest.raises(error, match=f"^{re.escape(message)}$"):
        call()


def test_a_folder_without_pictures_is_refused(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"^folder must hold pictures \(\.bmp, .*none in"):
        find_images(tmp_path)
