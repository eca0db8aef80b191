"""`glassbox.data`: devices, mini-batches, splits, normalisation."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from glassbox.data import (
    DataLoader,
    DataLoaders,
    Normalize,
    default_device,
    random_split,
    set_seed,
)


@given(st.integers(0, 50), st.integers(1, 60), st.booleans(), st.booleans())
def test_a_pass_gives_every_item_once(n, batch_size, shuffle, drop_last):
    x, y = torch.arange(n), torch.arange(n) * 10
    loader = DataLoader(x, y, batch_size=batch_size, shuffle=shuffle, drop_last=drop_last)
    batches = list(loader)
    assert len(batches) == len(loader)
    seen = [int(i) for xb, _ in batches for i in xb]
    whole = n - n % batch_size if drop_last else n
    assert len(seen) == len(set(seen)) == whole
    assert all(torch.equal(yb, xb * 10) for xb, yb in batches)
    assert all(len(xb) == batch_size for xb, _ in batches[:-1])
    if not shuffle:
        assert seen == list(range(whole))


def test_shuffling_comes_from_the_generator_and_changes_with_each_pass():
    def passes():
        generator = torch.Generator().manual_seed(3)
        loader = DataLoader(torch.arange(100), batch_size=9, shuffle=True, generator=generator)
        return [torch.cat([b for (b,) in loader]).tolist() for _ in range(2)]

    first, second = passes()
    assert first != second != list(range(100)) != first
    torch.manual_seed(99)
    assert passes() == [first, second]


def test_batches_without_shuffling_are_views():
    x = torch.arange(10)
    (first,) = next(iter(DataLoader(x, batch_size=4)))
    assert first.data_ptr() == x.data_ptr()


def test_loaders_from_tensors():
    train, valid = (torch.zeros(10, 2), torch.arange(10)), (torch.ones(7, 2), torch.arange(7))
    dls = DataLoaders.from_tensors(train, valid, batch_size=3, seed=1, device="cpu")
    assert [len(yb) for _, yb in dls.train] == [3, 3, 3, 1]
    assert [len(yb) for _, yb in dls.valid] == [6, 1]
    order = torch.cat([yb for _, yb in dls.train]).tolist()
    assert order != sorted(order) == list(range(10))
    again = DataLoaders.from_tensors(train, valid, batch_size=3, seed=1, device="cpu")
    assert torch.cat([yb for _, yb in again.train]).tolist() != order  # its second pass was taken
    assert torch.cat([yb for _, yb in dls.valid]).tolist() == list(range(7))
    assert DataLoaders.from_tensors(train, batch_size=3).valid is None


@given(st.integers(2, 200), st.floats(0.05, 0.95))
def test_a_split_gives_every_row_to_one_side(n, fraction):
    if not 0 < round(n * fraction) < n:
        with pytest.raises(ValueError, match="two non-empty sets"):
            random_split(n, fraction)
        return
    train, valid = random_split(n, fraction, torch.Generator().manual_seed(0))
    assert sorted([*train.tolist(), *valid.tolist()]) == list(range(n))
    assert len(valid) == round(n * fraction)
    again, _ = random_split(n, fraction, torch.Generator().manual_seed(0))
    assert torch.equal(train, again)


def test_normalize_uses_the_training_data_only():
    train = torch.tensor([0.0, 2.0, 4.0])
    normalize = Normalize(train)
    assert normalize(train).mean().item() == pytest.approx(0)
    assert normalize(train).std(correction=0).item() == pytest.approx(1)
    other = torch.tensor([100.0, 200.0])
    expected = (other - 2) / torch.tensor([0.0, 2.0, 4.0]).std(correction=0)
    torch.testing.assert_close(normalize(other), expected)
    torch.testing.assert_close(normalize.inverse(normalize(other)), other)


def test_normalize_by_channel():
    images = torch.randn(20, 3, 4, 5) * torch.tensor([1.0, 10.0, 100.0]).view(1, 3, 1, 1) + 7
    normalize = Normalize(images, dim=1)
    assert normalize.mean.shape == normalize.std.shape == (1, 3, 1, 1)
    z = normalize(images)
    torch.testing.assert_close(z.mean((0, 2, 3)), torch.zeros(3), atol=1e-5, rtol=0)
    torch.testing.assert_close(z.std((0, 2, 3), correction=0), torch.ones(3))


def test_the_device_can_be_chosen(monkeypatch):
    monkeypatch.setenv("GLASSBOX_DEVICE", "cpu")
    assert default_device() == torch.device("cpu")


@pytest.mark.parametrize(
    ("cuda", "mps", "expected"),
    [(True, True, "cuda"), (False, True, "mps"), (False, False, "cpu")],
)
def test_without_a_choice_the_fastest_device_is_taken(monkeypatch, cuda, mps, expected):
    monkeypatch.delenv("GLASSBOX_DEVICE", raising=False)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: cuda)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: mps)
    assert default_device().type == expected


@pytest.mark.parametrize("name", ["gpu", "cuda:", "xla", "cuda"])
def test_a_device_that_is_not_there(monkeypatch, name):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setenv("GLASSBOX_DEVICE", name)
    with pytest.raises(ValueError, match=f"GLASSBOX_DEVICE must name a device.*{name!r}"):
        default_device()


def test_a_seed_fixes_what_is_drawn():
    first = set_seed(5), torch.rand(3)
    second = set_seed(5), torch.rand(3)
    assert torch.equal(first[1], second[1])
    assert torch.equal(torch.rand(2, generator=first[0]), torch.rand(2, generator=second[0]))


X = torch.zeros(4, 2)


@pytest.mark.parametrize(
    ("call", "error", "words"),
    [
        (lambda: DataLoader(batch_size=2), ValueError, "at least one tensor, but none"),
        (lambda: DataLoader(X, [1, 2], batch_size=2), TypeError, r"tensors\[1\].*list"),
        (lambda: DataLoader(torch.tensor(1), batch_size=2), ValueError, r"tensors\[0\].*rank 0"),
        (lambda: DataLoader(X, X[:3], batch_size=2), ValueError, r"same length.*\[4, 3\]"),
        (
            lambda: DataLoader(X, X.to("meta"), batch_size=2),
            ValueError,
            r"one device.*'cpu', 'meta'",
        ),
        (lambda: DataLoader(X, batch_size=0), ValueError, "batch_size must be.*at least 1.*0"),
        (lambda: DataLoader(X, batch_size=2.0), ValueError, "batch_size must be.*2.0"),
        (lambda: DataLoader(X, batch_size=True), ValueError, "batch_size must be.*True"),
        (lambda: random_split(10, 0.0), ValueError, "between 0 and 1, but it is 0.0"),
        (lambda: random_split(10, 1.0), ValueError, "between 0 and 1, but it is 1.0"),
        (lambda: Normalize(torch.ones(3)), ValueError, "train must vary"),
    ],
)
def test_bad_input_is_answered_in_one_sentence(call, error, words):
    with pytest.raises(error, match=words):
        call()
