"""Hooks, and what a callback records with them."""

import gc
import math
import re
import weakref

import matplotlib.pyplot as plt
import pytest
import torch
import torch.nn.functional as F
from torch import nn

from glassbox.data import DataLoader, DataLoaders
from glassbox.hooks import ActivationStats, Hook, Hooks, _bincount, _scatter_count
from glassbox.learner import Callback, CancelFitException, Learner
from glassbox.models import simple_cnn
from glassbox.optim import SGD


def _nothing(hook, module, inputs, output):
    return None


def _registered(model):
    return sum(len(m._forward_hooks) + len(m._backward_hooks) for m in model.modules())


def _learner(model, callbacks, n=40, batch_size=16, valid=True, shape=(1, 28, 28)):
    g = torch.Generator().manual_seed(0)
    x, y = torch.randn(n, *shape, generator=g), torch.randint(10, (n,), generator=g)
    train = DataLoader(x, y, batch_size=batch_size)
    loaders = DataLoaders(train, DataLoader(x, y, batch_size=40) if valid else None)
    return Learner(model, loaders, F.cross_entropy, SGD, 0.05, callbacks)


# -- Hook ----------------------------------------------------------------------------------------


def test_hook_calls_with_itself_the_module_the_inputs_and_the_output():
    layer, seen = nn.Linear(3, 2), []
    hook = Hook(layer, lambda *args: seen.append(args))
    x = torch.ones(4, 3)
    y = layer(x)
    assert seen[0][0] is hook
    assert seen[0][1] is layer
    assert hook.module is layer
    assert seen[0][2][0] is x
    assert seen[0][3] is y


def test_what_a_hook_returns_takes_the_place_of_the_output():
    layer = nn.Linear(3, 2)
    with Hook(layer, lambda hook, module, inputs, output: output * 0 + 7):
        assert layer(torch.ones(1, 3)).tolist() == [[7, 7]]
    assert layer(torch.ones(1, 3)).tolist() != [[7, 7]]


def test_a_backward_hook_sees_the_gradient_of_the_output():
    layer, seen = nn.Linear(3, 2), []
    x = torch.ones(4, 3, requires_grad=True)
    with Hook(layer, lambda h, m, gin, gout: seen.append((gin, gout)), backward=True):
        layer(x).sum().backward()
    assert torch.equal(seen[0][1][0], torch.ones(4, 2))
    assert torch.equal(seen[0][0][0], x.grad)


def test_a_forward_hook_is_not_called_by_the_backward_pass():
    layer, seen = nn.Linear(3, 2), []
    with Hook(layer, lambda *args: seen.append(1)):
        layer(torch.ones(4, 3)).sum().backward()
    assert len(seen) == 1


def test_a_removed_hook_is_not_called_and_may_be_removed_again():
    layer, seen = nn.Linear(3, 2), []
    hook = Hook(layer, lambda *args: seen.append(1))
    hook.remove()
    hook.remove()
    layer(torch.ones(1, 3))
    assert not seen
    assert _registered(layer) == 0


def test_leaving_a_with_statement_removes_the_hook_even_by_an_error():
    layer = nn.Linear(3, 2)
    with Hook(layer, _nothing) as hook:
        assert isinstance(hook, Hook)
        assert _registered(layer) == 1
    with pytest.raises(TypeError), Hook(layer, _nothing):
        layer("no tensor")
    assert _registered(layer) == 0


def test_removing_a_hook_frees_what_it_kept():
    layer = nn.Linear(3, 2)

    def keep(hook, module, inputs, output):
        hook.output = output

    hook = Hook(layer, keep)
    layer(torch.ones(1, 3))
    kept = weakref.ref(hook.output)
    hook.remove()
    del hook
    gc.collect()
    assert kept() is None


def test_an_attribute_that_the_function_has_not_set_is_explained():
    hook = Hook(nn.Linear(3, 2), _nothing)
    with pytest.raises(AttributeError, match=r"^the hook keeps no 'mean': its function has not"):
        _ = hook.mean


@pytest.mark.parametrize(
    ("module", "what"), [(None, "None"), ("layer4", "a str"), (nn.Linear, "a type")]
)
def test_a_hook_on_what_is_no_module_is_one_sentence(module, what):
    with pytest.raises(TypeError, match=rf"^module must be an nn.Module, but it is {what}\.$"):
        Hook(module, _nothing)


def test_a_hook_with_what_is_no_function_is_one_sentence():
    with pytest.raises(TypeError, match=r"^func must be a function, but it is 3\.$"):
        Hook(nn.ReLU(), 3)


# -- Hooks ---------------------------------------------------------------------------------------


def test_hooks_is_a_container_of_one_hook_for_each_module():
    model = nn.Sequential(nn.Linear(3, 2), nn.ReLU())
    hooks = Hooks(model, _nothing)
    assert len(hooks) == 2
    assert [h.module for h in hooks] == list(model)
    assert hooks[0] is next(iter(hooks))
    assert hooks[-1].module is model[1]
    assert repr(hooks) == "Hooks(2: Linear, ReLU)"


def test_leaving_a_with_statement_removes_all_hooks():
    model = nn.Sequential(nn.Linear(3, 2), nn.ReLU())
    with Hooks(model, _nothing) as hooks:
        assert isinstance(hooks, Hooks)
        assert _registered(model) == 2
    with pytest.raises(TypeError), Hooks(model, _nothing):
        model("no tensor")
    hooks.remove()
    assert _registered(model) == 0


def test_hooks_passes_on_that_it_listens_to_the_backward_pass():
    model, seen = nn.Sequential(nn.Linear(3, 2), nn.ReLU()), []
    with Hooks(model, lambda h, m, gin, gout: seen.append(m), backward=True):
        model(torch.ones(1, 3))
        assert not seen
        model(torch.ones(1, 3, requires_grad=True)).sum().backward()
    assert seen == [model[1], model[0]]


def test_hooks_that_fail_leave_none_registered():
    layer = nn.Linear(3, 2)
    with pytest.raises(TypeError, match=r"^module must be an nn.Module, but it is None\.$"):
        Hooks([layer, None], _nothing)
    assert _registered(layer) == 0


def test_hooks_need_several_modules():
    with pytest.raises(ValueError, match=r"^modules must hold at least one module, but it is emp"):
        Hooks([], _nothing)
    with pytest.raises(TypeError, match=r"^modules must be several modules.*, but it is a Linear"):
        Hooks(nn.Linear(1, 1), _nothing)


# -- ActivationStats -----------------------------------------------------------------------------


class Keep(nn.Module):
    """Passes its input on, and keeps what it saw while training."""

    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(1, 1, 1))
        self.kept = []

    def forward(self, x):
        y = x * self.weight.view(1)
        if self.training:
            self.kept.append(y.detach().clone())
        return y


def _recorded(values_shape=(3,), **options):
    model = nn.Sequential(Keep(), nn.Flatten(), nn.Linear(3, 10))
    stats = ActivationStats([model[0]], **options)
    _learner(model, [stats], shape=values_shape).fit(1)
    return stats, model[0].kept


def test_stats_are_those_of_the_outputs_of_each_training_batch():
    stats, kept = _recorded()
    assert len(kept) == 3
    assert torch.allclose(stats.means[0], torch.stack([k.mean() for k in kept]), atol=1e-6)
    assert torch.allclose(stats.stds[0], torch.stack([k.std(correction=0) for k in kept]))
    assert stats.means.shape == stats.stds.shape == (1, 3)


def test_histograms_are_those_of_histc():
    stats, kept = _recorded(bins=7, hist_range=(-1.0, 2.5))
    expected = torch.stack([torch.histc(k, 7, -1.0, 2.5) for k in kept], 1)
    assert torch.equal(stats.hists[0], expected.long())
    assert stats.hists.shape == (1, 7, 3)
    assert stats.hists.sum() < sum(k.numel() for k in kept)


def test_forty_bins_from_minus_ten_to_ten_are_the_default():
    stats, kept = _recorded()
    assert stats.hists.shape == (1, 40, 3)
    assert torch.allclose(stats.edges, torch.arange(-10, 10.5, 0.5))
    assert stats.hists.sum() == sum(k.numel() for k in kept)


def test_the_spread_of_values_far_from_zero_is_not_lost_to_rounding():
    stats, _ = _recorded()
    x = 10_000 + torch.randn(100, 100, generator=torch.Generator().manual_seed(0)) / 10
    stats.learn.training = True
    stats._record(next(iter(stats._record_of)), None, None, x)
    assert stats.stds[0, -1].item() == pytest.approx(x.double().std().item(), rel=0.02)


def test_outputs_in_half_precision_are_summed_up_in_single_precision():
    stats, _ = _recorded()
    x = 500 * torch.randn(100, 100, generator=torch.Generator().manual_seed(0))
    stats.learn.training = True
    for half in (x.half(), x.bfloat16()):
        stats._record(next(iter(stats._record_of)), None, None, half)
        mean, std = stats.means[0, -1], stats.stds[0, -1]
        assert mean.dtype == std.dtype == torch.float32
        assert mean.item() == pytest.approx(half.float().mean().item(), rel=1e-4)
        assert std.item() == pytest.approx(half.float().std(correction=0).item(), rel=1e-4)


def test_a_value_on_an_edge_is_in_the_bin_above_and_those_outside_in_none():
    stats = ActivationStats(bins=4, hist_range=(0, 4))
    x = torch.tensor([-0.01, 0, 0.99, 1, 3.99, 4, 100, -100, float("inf"), float("nan")])
    assert stats._count(x).tolist() == [3, 2, 1, 0, 1, 3]


def test_counting_without_waiting_for_the_device_gives_the_same_counts():
    index = torch.randint(7, (1000,), dtype=torch.int32)
    assert torch.equal(_scatter_count(index, 9), torch.bincount(index, minlength=9))
    assert torch.equal(_bincount(index, 9), _scatter_count(index, 9))


def test_on_an_accelerator_the_counts_stay_where_the_values_are():
    counts = _bincount(torch.zeros(5, dtype=torch.int32, device="meta"), 9)
    assert counts.device.type == "meta"
    assert counts.shape == (9,)


@pytest.mark.parametrize(("sample", "counted"), [(None, 40), (16, 16), (17, 20), (1, 4), (99, 40)])
def test_a_histogram_counts_whole_items_of_the_batch_up_to_the_sample(sample, counted):
    stats = ActivationStats(sample=sample)
    assert stats._count(torch.zeros(10, 4)).sum() == counted


def test_the_sample_has_a_default_of_two_to_the_fourteen():
    assert ActivationStats()._count(torch.zeros(200, 128)).sum() == 16_384


def test_validation_batches_are_not_recorded():
    stats = ActivationStats()
    _learner(simple_cnn(), [stats]).fit(2)
    assert stats.means.shape == (4, 6)


def test_another_fit_appends():
    stats = ActivationStats()
    learner = _learner(simple_cnn(), [stats])
    learner.fit(1)
    first = stats.means
    learner.fit(1)
    assert stats.means.shape == (4, 6)
    assert torch.equal(stats.means[:, :3], first)


def test_the_children_with_convolutions_are_recorded_when_none_are_named():
    model, stats = simple_cnn(), ActivationStats()
    _learner(model, [stats]).fit(1)
    assert stats.modules == list(model)[:4]


def test_without_convolutions_the_children_with_linear_layers_are_recorded():
    model = nn.Sequential(nn.Flatten(), nn.Linear(784, 20), nn.ReLU(), nn.Linear(20, 10))
    stats = ActivationStats()
    _learner(model, [stats]).fit(1)
    assert stats.modules == [model[1], model[3]]


def test_convolutions_of_sounds_and_of_volumes_count_as_convolutions():
    for convolution, shape in ((nn.Conv1d, (1, 9)), (nn.Conv3d, (1, 3, 3, 3))):
        size = 3 ** (len(shape) - 1) if convolution is nn.Conv3d else 9
        model = nn.Sequential(convolution(1, 1, 1), nn.Flatten(), nn.Linear(size, 10))
        stats = ActivationStats()
        _learner(model, [stats], shape=shape).fit(1)
        assert stats.modules == [model[0]]


def test_a_model_without_layers_is_one_sentence():
    model = nn.Sequential(nn.Flatten(), nn.BatchNorm1d(784))
    with pytest.raises(ValueError, match=r"^modules must be given, as no child of the model holds"):
        _learner(model, [ActivationStats()]).fit(1)


def test_a_module_of_another_model_is_one_sentence():
    stats = ActivationStats([nn.Linear(1, 1)])
    with pytest.raises(
        ValueError, match=r"^modules must be parts of the learner's model, but one Linear is not\.$"
    ):
        _learner(simple_cnn(), [stats]).fit(1)


class Stop(Callback):
    def after_pred(self):
        raise CancelFitException


class Break(Callback):
    def after_pred(self):
        raise KeyError


def test_no_hook_stays_registered_after_a_fit_however_it_ended():
    for callback, error in ((Callback(), None), (Stop(), None), (Break(), KeyError)):
        model = simple_cnn()
        learner = _learner(model, [ActivationStats(), callback])
        if error:
            with pytest.raises(error):
                learner.fit(1)
        else:
            learner.fit(1)
        assert _registered(model) == 0


def test_recording_changes_nothing_in_the_training():
    results = []
    for callbacks in ([], [ActivationStats()]):
        torch.manual_seed(0)
        model = simple_cnn()
        _learner(model, callbacks).fit(1)
        results.append(model[0][0].weight)
    assert torch.equal(*results)


def test_nothing_that_is_recorded_keeps_the_graph_of_the_gradients():
    stats = ActivationStats()
    _learner(simple_cnn(), [stats]).fit(1)
    assert not any(t.requires_grad for t in (stats.means, stats.stds, stats.hists))


def test_dead_share_is_the_share_of_values_around_zero_of_all_counted():
    stats = ActivationStats([nn.ReLU()])
    x = torch.tensor([[-0.5, -0.51, 0.49, 0.5, 0.0, 99.0, 0.7, -0.2]])
    stats._records = [[(torch.tensor(0.0), torch.tensor(0.0), stats._count(x))]]
    assert stats.dead_share().tolist() == [[4 / 8]]
    assert stats.dead_share(0, 0.5).tolist() == [[2 / 8]]
    assert stats.dead_share(-1.0, 1.0).tolist() == [[7 / 8]]


def test_dead_share_is_of_each_layer_in_each_batch():
    stats = ActivationStats([nn.ReLU(), nn.ReLU()])
    zero, outputs = torch.tensor(0.0), [[[0.0, 9.0], [0.0, 0.0]], [[9.0, 9.0], [0.1, 99.0]]]
    stats._records = [
        [(zero, zero, stats._count(torch.tensor([batch]))) for batch in layer] for layer in outputs
    ]
    assert stats.dead_share().tolist() == [[0.5, 1.0], [0.0, 0.5]]


def test_dead_share_counts_a_bin_whose_edges_are_rounded():
    stats = ActivationStats([nn.ReLU()], bins=20, hist_range=(-1.0, 1.0))
    x = torch.tensor([[-0.35, -0.25, 0.05, 0.25, 0.35]])
    stats._records = [[(torch.tensor(0.0), torch.tensor(0.0), stats._count(x))]]
    assert stats.dead_share(-0.3, 0.3).item() == pytest.approx(3 / 5)


def test_dead_share_needs_a_bin():
    stats, _ = _recorded()
    message = r"^low and high must have a bin between them \(bins are 0.5 wide\), but they are 0 an"
    with pytest.raises(ValueError, match=message):
        stats.dead_share(0, 0.3)


def test_asking_before_a_fit_is_one_sentence():
    with pytest.raises(ValueError, match=r"^there is nothing to show before a training batch"):
        _ = ActivationStats().means


def test_a_layer_that_is_not_used_is_named():
    class Bypass(nn.Module):
        def __init__(self):
            super().__init__()
            self.used, self.idle = nn.Linear(3, 10), nn.Linear(3, 10)
            self.flat = nn.Flatten()

        def forward(self, x):
            return self.used(x)

    stats = ActivationStats()
    _learner(Bypass(), [stats], shape=(3,)).fit(1)
    with pytest.raises(ValueError, match=r"^modules must each be called once .* but Linear was"):
        _ = stats.means
    model = Bypass()
    stats = ActivationStats([model.used, model.idle, model.flat])
    _learner(model, [stats], shape=(3,)).fit(1)
    with pytest.raises(ValueError, match=r"^modules must each .* but Linear, Flatten was"):
        _ = stats.means


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"bins": 0}, "bins must be a whole number of at least 1, but it is 0."),
        ({"bins": 2.5}, "bins must be a whole number of at least 1, but it is 2.5."),
        ({"sample": 0}, "sample must be a whole number of at least 1, or None, but it is 0."),
        ({"sample": "all"}, "sample must be a whole number of at least 1, or None, but it is 'al"),
        ({"hist_range": (1, 1)}, "hist_range must be two numbers, the smaller one first, but it i"),
        ({"hist_range": (0, float("inf"))}, "hist_range must be two numbers, the smaller one"),
        ({"hist_range": (-float("inf"), 0)}, "hist_range must be two numbers, the smaller one"),
        ({"modules": []}, "modules must hold at least one module, but it is empty."),
    ],
)
def test_options_out_of_range_are_one_sentence(options, message):
    with pytest.raises(ValueError, match=f"^{re.escape(message)}"):
        ActivationStats(**options)


def test_modules_that_are_none_are_one_sentence():
    with pytest.raises(TypeError, match=r"^modules must hold modules, but one is a str\.$"):
        ActivationStats(["0"])


def test_one_bin_and_a_sample_of_one_are_allowed():
    stats = ActivationStats(bins=1, sample=1)
    assert stats._count(torch.zeros(1, 1)).tolist() == [0, 1, 0]


def test_lines_are_drawn_for_each_layer():
    stats = ActivationStats()
    _learner(simple_cnn(), [stats]).fit(1)
    for plot, values in ((stats.plot_means, stats.means), (stats.plot_stds, stats.stds)):
        ax = plot(batches=2)
        assert [line.get_ydata().tolist() for line in ax.lines] == values[:, :2].tolist()
        assert ax.get_xlabel() == "batch"
        assert [t.get_text() for t in ax.get_legend().get_texts()][-1] == "layer 3"
    assert stats.plot_means().get_ylabel() == "mean of the outputs"
    assert stats.plot_stds().get_ylabel() == "standard deviation"
    _, axes = plt.subplots(1, 2)
    assert stats.plot_means(axes[0]) is axes[0]
    assert stats.plot_stds(axes[1]) is axes[1]
    _, ax = plt.subplots()
    assert stats.plot_dead(ax, -1.0, 1.0) is ax
    assert ax.lines[0].get_ydata().tolist() == stats.dead_share(-1.0, 1.0)[0].tolist()
    assert ax.get_ylabel() == "share near zero"
    assert ax.get_ylim() == (-0.02, 1.02)
    plt.close("all")


@pytest.mark.parametrize(("n_layers", "panels"), [(1, 1), (3, 4), (4, 4)])
def test_histograms_are_drawn_as_one_picture_a_layer(n_layers, panels):
    model = simple_cnn()
    stats = ActivationStats(list(model)[:n_layers])
    _learner(model, [stats]).fit(1)
    figure = stats.plot_hists()
    pictures = [ax for ax in figure.axes if ax.images]
    assert len(figure.axes) == panels
    assert len(pictures) == n_layers
    assert all(ax.axison == bool(ax.images) for ax in figure.axes)
    image = pictures[-1].images[0]
    assert torch.equal(torch.tensor(image.get_array()), stats.hists[-1].float().log1p())
    assert image.get_extent() == [-0.5, 2.5, -10, 10]
    assert image.origin == "lower"
    assert pictures[0].get_title() == "layer 0"
    assert figure.axes[0].get_ylabel() == "output"
    assert figure.axes[-1].get_xlabel() == "batch"
    assert image.get_cmap().name == "viridis"
    assert image.get_interpolation() == "nearest"
    assert pictures[0].get_aspect() == "auto"
    assert figure.get_size_inches().tolist() == [5.6, 1.9 * math.ceil(panels / 2)]
    if n_layers > 1:
        assert pictures[0].get_shared_x_axes().joined(pictures[0], pictures[-1])
        assert pictures[0].get_shared_y_axes().joined(pictures[0], pictures[-1])
    plt.close("all")


@pytest.mark.parametrize("hist_range", [None, (0, 1, 2), (0, "1")])
def test_a_range_is_two_numbers(hist_range):
    with pytest.raises(ValueError, match="^hist_range must be two numbers, the smaller one first"):
        ActivationStats(hist_range=hist_range)


def test_a_single_module_is_not_several():
    with pytest.raises(TypeError, match="^modules must be several modules.*, but it is a Linear.$"):
        ActivationStats(modules=nn.Linear(1, 1))
