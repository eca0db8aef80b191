"""`glassbox.simulations`: scenes whose truth is known."""

import pytest
import torch

from glassbox.simulations import DISTRACTORS, OBJECTS, Scenes, cluttered_scenes

MARK = torch.tensor(
    [[int(dot) for dot in row] for row in ("1110111", "1000101", "1010111", "1110101")]
)


@pytest.fixture(scope="module")
def scenes() -> Scenes:
    return cluttered_scenes(300, seed=5)


def test_shapes_and_types(scenes):
    assert scenes.images.shape == (300, 3, 64, 64)
    assert scenes.images.dtype == torch.float32
    assert scenes.images.min() >= 0
    assert scenes.images.max() <= 1
    assert (scenes.labels.shape, scenes.labels.dtype) == ((300,), torch.int64)
    assert (scenes.boxes.shape, scenes.boxes.dtype) == ((300, 4), torch.int64)
    assert (scenes.masks.shape, scenes.masks.dtype) == ((300, 64, 64), torch.bool)
    assert scenes.hues.shape == (300,)
    assert (scenes.other_kinds.shape, scenes.other_kinds.dtype) == ((300, 4), torch.int64)
    assert scenes.other_boxes.shape == (300, 4, 4)
    assert (scenes.marked.shape, scenes.marked.dtype) == ((300,), torch.bool)
    assert not scenes.marked.any()


def test_the_same_seed_gives_the_same_scenes_and_another_one_others():
    first, again, other = (cluttered_scenes(3, seed) for seed in (1, 1, 2))
    assert all(torch.equal(a, b) for a, b in zip(first, again, strict=True))
    assert not torch.equal(first.images, other.images)
    assert torch.equal(cluttered_scenes(2).images, cluttered_scenes(2, 0).images)


def test_it_leaves_torchs_own_generator_alone():
    torch.manual_seed(3)
    expected = torch.rand(1)
    torch.manual_seed(3)
    cluttered_scenes(2, seed=1)
    assert torch.equal(torch.rand(1), expected)


def test_more_scenes_than_are_drawn_at_once():
    scenes = cluttered_scenes(1030, seed=1, size=36, num_others=0)
    assert len(scenes.images) == len(scenes.boxes) == 1030
    assert not torch.equal(scenes.images[0], scenes.images[512])


def test_every_class_is_about_equally_frequent_and_all_distractors_appear(scenes):
    counts = torch.bincount(scenes.labels, minlength=len(OBJECTS))
    assert len(counts) == len(OBJECTS)
    assert counts.min() > 25
    kinds = set(scenes.other_kinds.flatten().tolist())
    assert kinds == set(range(len(OBJECTS), len(OBJECTS + DISTRACTORS)))


def test_the_box_is_the_tightest_around_the_mask(scenes):
    for mask, box in zip(scenes.masks, scenes.boxes, strict=True):
        top, left, bottom, right = box.tolist()
        assert mask[top:bottom, left:right].sum() == mask.sum()
        for edge in (mask[top], mask[bottom - 1], mask[:, left], mask[:, right - 1]):
            assert edge.any()


def test_things_are_large_enough_and_none_covers_another(scenes):
    boxes = torch.cat([scenes.boxes[:, None], scenes.other_boxes], 1)
    assert (boxes[..., 2:] - boxes[..., :2]).min() >= 4
    assert boxes.min() >= 0
    assert boxes.max() <= 64
    for picture in boxes:
        canvas = torch.zeros(64, 64)
        for top, left, bottom, right in picture.tolist():
            canvas[top + 1 : bottom - 1, left + 1 : right - 1] += 1  # edges may touch
        assert canvas.max() == 1


def test_the_object_has_one_colour_of_the_hue_that_is_given(scenes):
    for i in range(40):
        pixels = scenes.images[i][:, scenes.masks[i]]
        assert pixels.std(1).max() < 0.15  # noise and edges only
        colour = pixels.median(1)[0]
        strongest = int(colour.argmax())
        distance = (scenes.hues[i] - strongest / 3 + 0.5) % 1 - 0.5
        assert abs(distance) < 1 / 6 + 0.05


def test_classes_differ_in_shape():
    scenes = cluttered_scenes(600, seed=2)
    height, width = scenes.boxes[:, 2] - scenes.boxes[:, 0], scenes.boxes[:, 3] - scenes.boxes[:, 1]
    filled = scenes.masks.flatten(1).sum(1) / (height * width)
    share = {name: filled[scenes.labels == i].median() for i, name in enumerate(OBJECTS)}
    assert 0.7 < share["disc"] < 0.85  # π/4
    assert share["ring"] < share["disc"] - 0.1
    centres = (scenes.boxes[:, :2] + scenes.boxes[:, 2:]) // 2
    hollow = ~scenes.masks[torch.arange(600), centres[:, 0], centres[:, 1]]
    assert hollow[scenes.labels == OBJECTS.index("ring")].all()
    assert not hollow[scenes.labels != OBJECTS.index("ring")].any()


def test_rivals_come_first_and_are_of_other_classes():
    scenes = cluttered_scenes(200, seed=1, num_rivals=2)
    rivals = scenes.other_kinds[:, :2]
    assert (rivals < len(OBJECTS)).all()
    assert (rivals != scenes.labels[:, None]).all()
    assert (rivals[:, 0] != rivals[:, 1]).all()
    assert (scenes.other_kinds[:, 2:] >= len(OBJECTS)).all()


def test_more_rivals_than_other_classes_repeat_some_but_never_the_label():
    scenes = cluttered_scenes(100, seed=1, num_others=7, num_rivals=7)
    assert (scenes.other_kinds < len(OBJECTS)).all()
    assert (scenes.other_kinds != scenes.labels[:, None]).all()


def test_an_object_alone():
    scenes = cluttered_scenes(5, num_others=0)
    assert scenes.other_boxes.shape == (5, 0, 4)
    assert scenes.other_kinds.shape == (5, 0)


def test_other_sizes():
    scenes = cluttered_scenes(50, size=37, seed=1)
    assert scenes.images.shape == (50, 3, 37, 37)
    assert scenes.boxes.max() <= 37
    assert (scenes.masks.flatten(1).sum(1) > 10).all()


def test_the_mark_is_on_all_pictures_of_its_class_and_on_no_other():
    scenes = cluttered_scenes(200, seed=1, watermark=2)
    assert torch.equal(scenes.marked, scenes.labels == 2)


def test_shares_of_marked_pictures():
    scenes = cluttered_scenes(900, 1, size=36, watermark=2, marked_share=0.5, marked_elsewhere=0.2)
    ours = scenes.labels == 2
    assert 0.3 < scenes.marked[ours].float().mean() < 0.7
    assert 0.1 < scenes.marked[~ours].float().mean() < 0.3


def test_the_mark_is_all_that_differs():
    plain = cluttered_scenes(100, seed=1, watermark=2, marked_share=0.0)
    marked = cluttered_scenes(100, seed=1, watermark=2, marked_elsewhere=1.0)
    assert not plain.marked.any()
    assert marked.marked.all()
    for name in set(Scenes._fields) - {"images", "marked"}:
        assert torch.equal(getattr(plain, name), getattr(marked, name))
    changed = (plain.images != marked.images).any(1)
    for i, (top, left, bottom, right) in enumerate(marked.mark_boxes.tolist()):
        assert (bottom - top, right - left) == MARK.shape
        assert (top, left) == (58, 2)
        assert torch.equal(changed[i, top:bottom, left:right], MARK.bool())
        assert changed[i].sum() == MARK.sum()
        assert (marked.images[i, :, top:bottom, left:right][:, MARK.bool()] >= 0.9).all()


def test_the_corner_of_the_mark_is_kept_free():
    free = cluttered_scenes(200, seed=1, watermark=0, num_others=7, marked_share=0.0)
    boxes = torch.cat([free.boxes[:, None], free.other_boxes], 1)
    in_corner = (boxes[..., 2] > 64 - 64 // 3 + 1) & (boxes[..., 1] < 64 // 3 - 1)
    assert not in_corner.any()
    without = cluttered_scenes(200, seed=1, num_others=7)
    boxes = torch.cat([without.boxes[:, None], without.other_boxes], 1)
    assert ((boxes[..., 2] > 44) & (boxes[..., 1] < 20)).any()


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"n": 0}, "^n must be a whole number of at least 1, but it is 0.$"),
        ({"n": 2.0}, "^n must be a whole number of at least 1, but it is 2.0.$"),
        ({"n": True}, "^n must be a whole number of at least 1, but it is True.$"),
        ({"size": 35}, "^size must be a whole number of at least 36, but it is 35.$"),
        ({"num_others": 8}, "^num_others must be a whole number from 0 to 7, but it is 8.$"),
        ({"num_others": -1}, "^num_others must be a whole number from 0 to 7, but it is -1.$"),
        ({"num_rivals": 5}, "^num_rivals must be a whole number from 0 to 4, but it is 5.$"),
        ({"watermark": 6}, "^watermark must be a whole number from 0 to 5, but it is 6.$"),
        ({"marked_share": 1.5}, "^marked_share must lie between 0 and 1, but it is 1.5.$"),
        ({"marked_elsewhere": -0.5}, "^marked_elsewhere must lie between 0 and 1, but it is -0.5"),
    ],
)
def test_bad_input_is_answered_in_one_sentence(options, sentence):
    with pytest.raises(ValueError, match=sentence):
        cluttered_scenes(**{"n": 1, **options})


def test_a_seed_is_a_whole_number():
    with pytest.raises(ValueError, match="^seed must be a whole number from"):
        cluttered_scenes(1, None)
