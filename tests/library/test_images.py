"""`glassbox.images`: labelled folders of pictures, good and bad."""

import re

import numpy as np
import pytest
import torch
from matplotlib import pyplot as plt
from PIL import Image
from torch.utils.data import DataLoader

from glassbox.augment import Augment, Presize
from glassbox.data import DataLoaders
from glassbox.imagefiles import ImageError, label_of, read_image
from glassbox.images import ImageFolder, show_batch

PATTERN = r"([^/]+)_\d+\.png$"


def save(path, height=6, width=8, seed=0, mode="RGB"):
    path.parent.mkdir(parents=True, exist_ok=True)
    shape = (height, width, 3) if mode == "RGB" else (height, width)
    pixels = np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8)
    Image.fromarray(pixels).save(path)
    return pixels


@pytest.fixture
def pets(tmp_path):
    """Twelve pictures of two kinds of animal, all of one size."""
    for i in range(6):
        save(tmp_path / f"cat_{i}.png", seed=i)
        save(tmp_path / f"golden_dog_{i}.png", seed=10 + i)
    return tmp_path


def broken(path):
    """Write the first half of a picture."""
    save(path, 40, 40)
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def test_a_folder_is_a_sequence_of_pictures_and_classes(pets):
    folder = ImageFolder(pets, PATTERN)
    assert len(folder) == 12
    assert folder.classes == ["cat", "golden_dog"]
    assert folder.labels.tolist() == [0] * 6 + [1] * 6
    assert folder.name(7) == "golden_dog_1.png"
    image, label = folder[7]
    assert label == 1
    assert torch.equal(image, read_image(pets / "golden_dog_1.png"))
    with pytest.raises(IndexError, match=r"^i must be from 0 to 11, but it is 12\.$"):
        folder[12]
    assert len(list(folder)) == 12


def test_pictures_are_read_when_asked_for_and_not_before(pets):
    broken(pets / "cat_3.png")
    folder = ImageFolder(pets, PATTERN)
    assert folder[2][1] == 0
    with pytest.raises(ImageError, match=r"cat_3\.png cannot be read"):
        folder[3]
    save(pets / "cat_3.png", seed=3)
    assert folder[3][0].shape == (3, 6, 8)


def test_steps_are_applied_in_order(pets):
    folder = ImageFolder(pets, PATTERN, [lambda x: x[:, :4, :4], lambda x: x.mean(0, keepdim=True)])
    assert folder[0][0].shape == (1, 4, 4)
    torch.testing.assert_close(
        folder[0][0], read_image(pets / "cat_0.png")[:, :4, :4].mean(0)[None]
    )


def test_a_broken_file_is_never_skipped_silently(pets):
    broken(pets / "cat_3.png")
    with pytest.raises(ImageError, match=r"cat_3\.png cannot be read"):
        ImageFolder(pets, PATTERN).tensors()
    with pytest.warns(UserWarning, match=r"^Left out, because they cannot be read: cat_3\.png\.$"):
        folder = ImageFolder(pets, PATTERN, skip_broken=True)
    assert len(folder) == 11
    assert list(folder.skipped) == ["cat_3.png"]
    assert "cannot be read" in folder.skipped["cat_3.png"]
    assert folder.tensors()[0].shape == (11, 3, 6, 8)
    named = [label_of(folder.name(i), PATTERN) for i in range(11)]
    assert [folder.classes[label] for label in folder.labels] == named


def test_asking_to_skip_says_nothing_where_nothing_is_broken(pets, recwarn):
    folder = ImageFolder(pets, PATTERN, skip_broken=True)
    assert len(folder) == 12
    assert folder.skipped == {}
    assert not [w for w in recwarn if w.category is UserWarning]


def test_a_folder_of_broken_files_is_refused(tmp_path):
    broken(tmp_path / "cat_1.png")
    with pytest.raises(ImageError, match=r"^folder must hold pictures that can be read.*among 1\."):
        ImageFolder(tmp_path, PATTERN, skip_broken=True)


def test_names_that_do_not_match_are_counted_and_shown(pets):
    save(pets / "IMG0001.png")
    message = (
        f"pattern must find a label in each file name, but {PATTERN!r} finds none in 1 of 13: "
        "IMG0001.png."
    )
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        ImageFolder(pets, PATTERN)


def test_a_split_holds_each_picture_once_and_is_the_same_for_the_same_seed(pets):
    folder = ImageFolder(pets, PATTERN)
    train, valid = folder.split(0.25, seed=4)
    again, _ = folder.split(0.25, seed=4)
    other, _ = folder.split(0.25, seed=5)
    assert (len(train), len(valid)) == (9, 3)
    assert sorted(train.files + valid.files) == folder.files
    assert train.files == again.files
    assert train.files != other.files
    assert train.classes == valid.classes == folder.classes
    for part in (train, valid):
        for i in range(len(part)):
            assert part.classes[part[i][1]] == label_of(part.name(i), PATTERN)


def test_a_subset_may_have_steps_of_its_own(pets):
    folder = ImageFolder(pets, PATTERN, [Presize(4)])
    part = folder.subset(torch.tensor([6, 0]), [Presize(2)])
    assert [part.name(i) for i in range(2)] == ["golden_dog_0.png", "cat_0.png"]
    assert part[0][0].shape == (3, 2, 2)
    assert folder.subset([1])[0][0].shape == (3, 4, 4)


def test_everything_at_once_and_batches(pets):
    folder = ImageFolder(pets, PATTERN, [Presize(6)])
    images, labels = folder.tensors()
    assert images.shape == (12, 3, 6, 6)
    assert torch.equal(labels, folder.labels)
    dls = DataLoaders.from_tensors((images, labels), batch_size=5)
    assert next(iter(dls.train))[0].shape == (5, 3, 6, 6)
    xb, yb = next(iter(DataLoader(folder, batch_size=5)))
    torch.testing.assert_close(xb, images[:5])
    assert torch.equal(yb, labels[:5])


def test_pictures_of_different_sizes_are_not_stacked(pets):
    save(pets / "cat_9.png", 9, 9)
    message = (
        "pictures must have one size to be stacked, but cat_0.png is 3×6×8 and cat_9.png is 3×9×9: "
        "add a step that resizes them, such as Presize."
    )
    with pytest.raises(ImageError, match=f"^{re.escape(message)}$"):
        ImageFolder(pets, PATTERN).tensors()
    assert ImageFolder(pets, PATTERN, [Presize(5)]).tensors()[0].shape == (13, 3, 5, 5)


# Looking at it


def test_a_summary_walks_through_every_step(pets):
    folder = ImageFolder(pets, PATTERN, [Presize(6)])
    assert folder.summary(6, 2, Augment(size=4)).splitlines() == [
        "12 pictures in 2 classes",
        "ok      find a file: golden_dog_0.png",
        "ok      label by its name: golden_dog",
        "ok      read it: 3×6×8",
        "ok      Presize to 6×6, from the middle: 3×6×6",
        "ok      do so for 2: 3×6×6",
        "ok      stack them: 2×3×6×6",
        "ok      Augment: 2×3×4×4",
    ]
    assert len(folder.summary(11, 3).splitlines()) == 7, "after the last comes the first"


def test_a_summary_ends_where_sizes_differ_and_says_so_in_one_sentence(pets):
    save(pets / "cat_1.png", 5, 5)
    lines = ImageFolder(pets, PATTERN).summary().splitlines()
    assert lines[-2] == "ok      do so for 4: 3×5×5, 3×6×8"
    assert lines[-1] == (
        "FAILED  stack them: pictures must have one size to be stacked, but cat_0.png is 3×6×8 and "
        "cat_1.png is 3×5×5: add a step that resizes them, such as Presize."
    )


def test_a_summary_names_a_broken_file_and_a_step_that_fails(pets):
    broken(pets / "cat_0.png")
    last = ImageFolder(pets, PATTERN).summary().splitlines()[-1]
    assert re.match(r"FAILED  read it: .*cat_0\.png cannot be read as a picture: .*\.$", last)

    def halve(x):
        raise RuntimeError("no half of this\nand a second line")

    folder = ImageFolder(pets, PATTERN, [halve])
    assert folder.summary(1).splitlines()[-1] == "FAILED  halve: no half of this"
    batch = ImageFolder(pets, PATTERN, [Presize(4)]).summary(6, 2, halve)
    assert batch.splitlines()[-1] == "FAILED  halve: no half of this"


def test_a_summary_of_one_class_says_that_there_is_nothing_to_tell_apart(tmp_path):
    for i in range(4):
        save(tmp_path / f"cat_{i}.png", seed=i)
    folder = ImageFolder(tmp_path, PATTERN)
    assert folder.classes == ["cat"]
    lines = folder.summary().splitlines()
    assert lines[-2].startswith("ok      stack them")
    assert lines[-1] == (
        "FAILED  tell classes apart: pattern must find at least two labels to tell apart, but "
        f"{PATTERN!r} finds 'cat' in every file name."
    )


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (
            lambda f: f.subset([0, 12]),
            ValueError,
            "rows must be a whole number from -12 to 11, but it is 12.",
        ),
        (
            lambda f: f.subset(torch.ones(12, dtype=torch.bool)),
            ValueError,
            "rows must be a whole number from -12 to 11, but it is True.",
        ),
        (lambda f: f.subset([]), ValueError, "rows must hold at least one row, but it is empty."),
        (
            lambda f: f.subset([0], ["resize"]),
            TypeError,
            "steps must be functions, but one is 'resize'.",
        ),
        (
            lambda f: f.subset([0, 1], [lambda x: None]).tensors(),
            ImageError,
            "steps must return tensors, but for cat_0.png they return a NoneType.",
        ),
        (
            lambda f: ImageFolder(f.folder, re.compile(PATTERN)),
            TypeError,
            "pattern must be text, but it is a Pattern.",
        ),
        (
            lambda f: f.split(1.0),
            ValueError,
            "valid_fraction must lie between 0 and 1, but it is 1.0.",
        ),
    ],
)
def test_bad_input_is_answered_in_one_sentence(pets, call, error, message):
    with pytest.raises(error, match=f"^{re.escape(message)}$"):
        call(ImageFolder(pets, PATTERN))


def test_a_single_step_needs_no_list(pets):
    assert ImageFolder(pets, PATTERN, Presize(4))[0][0].shape == (3, 4, 4)


def test_a_summary_of_what_is_not_there_is_refused(pets):
    with pytest.raises(
        ValueError, match=r"^i must be a whole number from 0 to 11, but it is 12\.$"
    ):
        ImageFolder(pets, PATTERN).summary(12)


def titles(figure):
    return [ax.get_title() for ax in figure.axes if ax.images]


def test_show_batch_draws_the_pictures_that_it_names(pets):
    folder = ImageFolder(pets, PATTERN)
    figure = show_batch(folder, 12, seed=1)
    for ax in (ax for ax in figure.axes if ax.images):
        drawn = torch.tensor(ax.images[0].get_array()).permute(2, 0, 1)
        (label,) = (label for image, label in folder if torch.equal(image, drawn.float()))
        assert ax.get_title() == folder.classes[label]
    plt.close("all")


def test_show_batch_draws_pictures_with_their_classes(pets):
    folder = ImageFolder(pets, PATTERN)
    figure = show_batch(folder.subset([0, 6, 1]))
    assert titles(figure) == ["cat", "golden_dog", "cat"]
    drawn = show_batch(folder, 5, seed=1)
    assert len(titles(drawn)) == 5
    assert titles(drawn) == titles(show_batch(folder, 5, seed=1))
    halved = show_batch(folder, 2, batch_transform=Augment(size=3))
    assert halved.axes[0].images[0].get_array().shape == (3, 3, 3)
    plt.close("all")


def test_show_batch_shows_at_least_one(pets):
    with pytest.raises(
        ValueError, match=r"^n must be a whole number of at least 1, but it is 0\.$"
    ):
        show_batch(ImageFolder(pets, PATTERN), 0)
