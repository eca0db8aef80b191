"""`glassbox.callbacks`: metrics, recorder, progress, device placement, batch transforms."""

import math

import matplotlib.pyplot as plt
import pytest
import torch
from torch import nn

from glassbox import callbacks as module
from glassbox.callbacks import (
    BatchTransform,
    DevicePlacement,
    Metrics,
    Progress,
    Recorder,
    accuracy,
)
from glassbox.data import DataLoader, DataLoaders
from glassbox.learner import Callback, CancelBatchException, CancelFitException, Learner
from glassbox.losses import cross_entropy

X = torch.arange(14.0).view(7, 2)
Y = torch.tensor([0, 1, 2, 0, 1, 2, 0])


def make(*callbacks, valid=True, x=X, y=Y):
    torch.manual_seed(0)
    dls = DataLoaders(
        DataLoader(x, y, batch_size=3), DataLoader(x[:5], y[:5], batch_size=4) if valid else None
    )
    return Learner(nn.Linear(2, 3), dls, cross_entropy, lr=1e-3, callbacks=callbacks)


def test_accuracy():
    pred = torch.tensor([[0.1, 0.9], [0.8, 0.2], [0.3, 0.7], [0.6, 0.4]])
    assert accuracy(pred, torch.tensor([1, 0, 0, 0])).item() == 0.75
    with pytest.raises(ValueError, match=r"pred and target.*\(4, 2\) and \(4, 1\)"):
        accuracy(pred, torch.zeros(4, 1))
    with pytest.raises(ValueError, match=r"pred and target.*\(4,\)"):
        accuracy(pred[:, 0], torch.zeros(4))


def test_metrics_weight_batches_by_their_size():
    metrics = Metrics(accuracy=accuracy)
    learner = make(metrics)
    learner.fit(1)
    logits = learner.predict(X[:5])
    assert metrics.valid["loss"] == pytest.approx(cross_entropy(logits, Y[:5]).item(), rel=1e-5)
    assert metrics.valid["accuracy"] == pytest.approx(accuracy(logits, Y[:5]).item())
    assert set(metrics.as_row()) == {
        *("train_loss", "train_accuracy", "valid_loss", "valid_accuracy")
    }


def test_training_metrics_are_those_of_the_model_as_it_was():
    metrics, seen = Metrics(), []

    class Keep(Callback):
        def after_loss(self):
            if self.learn.training:
                seen.append((self.learn.loss.item(), len(self.learn.yb)))

    make(metrics, Keep()).fit(1)
    assert metrics.train["loss"] == pytest.approx(sum(v * n for v, n in seen) / 7)


def test_metrics_start_anew_each_epoch_and_see_what_callbacks_changed():
    class Constant(Callback):
        def after_loss(self):
            self.learn.loss = self.learn.loss * 0 + self.learn.epoch

    metrics, recorder = Metrics(), Recorder()
    make(metrics, recorder, Constant()).fit(3)
    assert [row["train_loss"] for row in recorder.history] == pytest.approx([0, 1, 2])
    assert [row["valid_loss"] for row in recorder.history] == pytest.approx([0, 1, 2])


def test_cancelled_batches_do_not_count():
    class SkipSecond(Callback):
        def before_batch(self):
            if self.learn.iteration == 1:
                raise CancelBatchException

    metrics = Metrics(one=lambda pred, target: torch.tensor(float(len(target))))
    make(metrics, SkipSecond(), valid=False).fit(1)
    assert metrics.train["one"] == pytest.approx((3 * 3 + 1 * 1) / 4)


def test_an_epoch_without_validation_does_not_show_the_one_before():
    class StopInTraining(Callback):
        def before_train(self):
            if self.learn.epoch == 1:
                raise CancelFitException

    metrics = Metrics()
    make(metrics, StopInTraining()).fit(2)
    assert metrics.as_row() == {}


def test_metrics_read_nothing_from_the_device_until_the_pass_ends(monkeypatch):
    metrics, recorder, reads = Metrics(accuracy=accuracy), Recorder(), []
    for name in ("item", "tolist", "__float__", "__bool__", "cpu"):
        original = getattr(torch.Tensor, name)

        def spy(self, *args, _name=name, _original=original, **kwargs):
            reads.append((_name, learner.iteration))
            return _original(self, *args, **kwargs)

        monkeypatch.setattr(torch.Tensor, name, spy)
    learner = make(metrics, recorder, Progress(), valid=False)
    learner.loss_func = nn.functional.cross_entropy
    learner.fit(1)
    assert {iteration for _, iteration in reads} <= {2}
    assert len(reads) == 1, "one read at the end of the pass"


def test_metrics_do_not_keep_the_graph():
    metrics = Metrics(mean=lambda pred, target: pred.mean())
    learner = make(metrics)
    learner.fit(1)
    assert all(not s.requires_grad for s in metrics._sums)


@pytest.mark.parametrize(
    ("functions", "error", "words"),
    [
        ({"accuracy": 3}, TypeError, "accuracy must be a function, but it is 3"),
        ({"loss": accuracy}, ValueError, "must not be named 'loss'"),
    ],
)
def test_bad_metrics(functions, error, words):
    with pytest.raises(error, match=words):
        Metrics(**functions)


def test_the_recorder_keeps_every_training_batch_and_every_epoch():
    recorder, metrics, seen = Recorder(), Metrics(accuracy=accuracy), []

    class Schedule(Callback):
        def before_batch(self):
            self.learn.opt.param_groups[0]["lr"] = 0.01 * (self.learn.iteration + 1)

        def after_loss(self):
            if self.learn.training:
                seen.append(self.learn.loss.item())

    learner = make(recorder, metrics, Schedule())
    learner.fit(2)
    learner.fit(1)
    assert recorder.losses == pytest.approx(seen)
    assert recorder.lrs == pytest.approx([0.01, 0.02, 0.03] * 3)
    assert [row["epoch"] for row in recorder.history] == [0, 1, 2]
    assert all(row["seconds"] > 0 for row in recorder.history)
    assert recorder.history[-1]["valid_accuracy"] == metrics.valid["accuracy"]


def test_a_recorder_that_has_seen_nothing():
    assert Recorder().losses == []


def test_the_recorders_plots():
    recorder = Recorder()
    make(recorder, Metrics(accuracy=accuracy)).fit(4)
    axes = recorder.plot_loss()
    assert axes.get_xlabel() == "batch"
    raw, smooth = (line.get_ydata() for line in axes.lines)
    assert list(raw) == pytest.approx(recorder.losses)
    assert smooth[0] == pytest.approx(raw[0]), "the average is not dragged towards zero"
    assert smooth[1] == pytest.approx((0.9 * 0.1 * raw[0] + 0.1 * raw[1]) / (1 - 0.9**2))
    axes = recorder.plot_metrics("accuracy")
    assert [line.get_label() for line in axes.lines] == ["training", "validation"]
    assert list(axes.lines[1].get_ydata()) == [r["valid_accuracy"] for r in recorder.history]
    assert list(axes.lines[0].get_xdata()) == [1, 2, 3, 4]
    _, mine = plt.subplots()
    assert recorder.plot_lr(mine) is mine
    assert list(mine.lines[0].get_ydata()) == recorder.lrs
    with pytest.raises(ValueError, match=r"recorded metric \['accuracy', 'loss'\].*'acuracy'"):
        recorder.plot_metrics("acuracy")
    plt.close("all")


def test_device_placement_moves_the_model_and_every_batch():
    seen = []

    class Look(Callback):
        def before_batch(self):
            seen.append((self.learn.xb.device.type, self.learn.yb.device.type))

    learner = make(DevicePlacement("cpu"), Look())
    learner.fit(1)
    assert seen == [("cpu", "cpu")] * 5
    # "meta" stands in for an accelerator: a device that is always there and is not the CPU.
    placement = DevicePlacement("meta")
    learner = make(placement)
    placement.before_fit()
    learner.xb, learner.yb = X, Y
    placement.before_batch()
    assert {learner.xb.device.type, learner.yb.device.type} == {"meta"}
    assert next(learner.model.parameters()).device.type == "meta"


def test_device_placement_takes_the_default_device(monkeypatch):
    monkeypatch.setenv("GLASSBOX_DEVICE", "cpu")
    assert DevicePlacement().device == torch.device("cpu")


@pytest.mark.parametrize("train_only", [False, True])
def test_batch_transform(train_only):
    seen = []

    class Look(Callback):
        def before_batch(self):
            seen.append((self.learn.training, self.learn.xb.sum().item()))

    make(BatchTransform(lambda x: x * 0, train_only=train_only), Look()).fit(1)
    assert all(total == 0 for training, total in seen if training or not train_only)
    assert any(total != 0 for training, total in seen if not training) == train_only


class Terminal:
    """A stream that says it is a terminal."""

    def __init__(self):
        self.text = ""

    def isatty(self):
        return True

    def write(self, text):
        self.text += text

    def flush(self):
        pass


def run_in_a_terminal(monkeypatch, ci):
    terminal = Terminal()
    monkeypatch.setattr(module.sys, "stderr", terminal)
    monkeypatch.setattr(module, "_in_notebook", lambda: False)
    if ci:
        monkeypatch.setenv("CI", "true")
    else:
        monkeypatch.delenv("CI", raising=False)
    make(Metrics(accuracy=accuracy), Progress(every=0)).fit(2)
    return terminal.text


def test_progress_in_a_terminal(monkeypatch):
    text = run_in_a_terminal(monkeypatch, ci=False)
    assert "epoch 1 of 2, training, batch 1 of 3" in text
    assert "epoch 2 of 2, validation, batch 2 of 2" in text
    rows = [line for line in text.split("\n") if "valid_accuracy" in line]
    assert len(rows) == 2


def test_progress_is_quiet_in_ci(monkeypatch):
    assert run_in_a_terminal(monkeypatch, ci=True) == ""


def test_progress_is_quiet_in_a_file(monkeypatch, capsys):
    monkeypatch.delenv("CI", raising=False)
    make(Progress(every=0)).fit(1)
    assert capsys.readouterr() == ("", "")


class Handle:
    def __init__(self):
        self.pages = []

    def update(self, page):
        self.pages.append(page.data)


@pytest.fixture
def notebook(monkeypatch):
    handle = Handle()
    monkeypatch.setattr(module, "_in_notebook", lambda: True)
    monkeypatch.setattr("IPython.display.display", lambda *_, **__: handle)
    return handle


def test_progress_in_a_notebook_grows_under_a_bar_and_ends_as_a_table(notebook):
    make(Metrics(accuracy=accuracy), Progress(every=0)).fit(2)
    assert any('<progress value="2" max="3">' in page for page in notebook.pages)
    last = notebook.pages[-1]
    assert "<progress" not in last
    assert last.count("<tr>") == 3
    assert "valid accuracy" in last


def test_progress_takes_its_bar_away_when_the_fit_fails(notebook):
    class Fails(Callback):
        def after_step(self):
            if self.learn.iteration == 1:
                raise KeyError

    with pytest.raises(KeyError):
        make(Progress(every=0), Fails()).fit(1)
    assert any("<progress" in page for page in notebook.pages)
    assert "<progress" not in notebook.pages[-1]


def test_progress_of_a_loader_without_a_length(notebook):
    learner = make(Progress(every=0), valid=False)
    learner.dls.train = ((x[None], y[None]) for x, y in zip(X, Y, strict=True))
    learner.fit(1)
    assert any("<progress>" in page and "batch 3<" in page for page in notebook.pages)


def test_progress_moves_no_more_often_than_it_is_told(notebook):
    make(Progress(every=math.inf)).fit(1)
    assert not any("<progress" in page for page in notebook.pages)
