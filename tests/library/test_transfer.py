"""`glassbox.transfer`: published weights, the parts of a model, freezing, and groups."""

import copy
import hashlib
import re
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from glassbox.models import BasicBlock, ResNet, simple_cnn
from glassbox.transfer import (
    body_and_head,
    freeze,
    load_weights,
    new_head,
    split_before,
    unfreeze,
)

SMALL = dict(layers=(1, 2), num_classes=3, in_channels=1, widths=(4, 6), small_images=True)


def small() -> ResNet:
    torch.manual_seed(0)
    return ResNet(**SMALL)


def randomised(model: nn.Module) -> nn.Module:
    """Give every norm a scale, shift and statistics of its own, as training does."""
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.uniform_(module.weight, 0.5, 1.5)
            nn.init.normal_(module.bias, 0, 0.2)
            module.running_mean.normal_(0, 0.2)
            module.running_var.uniform_(0.5, 1.5)
    return model


# Weights from a file


@pytest.fixture
def published(tmp_path) -> Path:
    """A file of weights of the small network, as somebody else trained it."""
    torch.manual_seed(9)
    path = tmp_path / "small-0123.pth"
    torch.save(randomised(ResNet(**SMALL)).state_dict(), path)
    return path


def sha256_of(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def changed(path: Path, change) -> Path:
    weights = torch.load(path, weights_only=True)
    change(weights)
    torch.save(weights, path)
    return path


def test_everything_is_loaded(published):
    net = small()
    assert load_weights(net, published) == []
    for name, tensor in torch.load(published, weights_only=True).items():
        assert torch.equal(net.state_dict()[name], tensor)


def test_a_path_may_be_text(published):
    assert load_weights(small(), str(published)) == []


@pytest.mark.parametrize("digits", [8, 9, 63, 64])
def test_the_checksum_may_be_its_beginning_in_either_case(published, digits):
    assert load_weights(small(), published, sha256_of(published)[:digits]) == []
    assert load_weights(small(), published, sha256_of(published)[:digits].upper()) == []


@pytest.mark.parametrize("place", [0, 7, 63])
def test_another_checksum_is_refused_and_nothing_is_loaded(published, place):
    right, net = sha256_of(published), small()
    before = copy.deepcopy(net.state_dict())
    wrong = right[:place] + ("1" if right[place] == "0" else "0") + right[place + 1 :]
    with pytest.raises(ValueError, match="must have a SHA-256 that begins with") as error:
        load_weights(net, published, wrong)
    assert wrong in str(error.value)
    assert right in str(error.value)
    assert published.name in str(error.value)
    assert all(torch.equal(before[n], t) for n, t in net.state_dict().items())


@pytest.mark.parametrize("sha256", ["", "0123456", "0" * 65, "resnet18", "0x345678"])
def test_what_is_no_checksum_is_refused(published, sha256):
    with pytest.raises(ValueError, match="sha256 must be between 8 and 64 hexadecimal digits"):
        load_weights(small(), published, sha256)


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match="there is none at .*nowhere.pth"):
        load_weights(small(), tmp_path / "nowhere.pth")
    with pytest.raises(FileNotFoundError, match="path must be a file of weights"):
        load_weights(small(), tmp_path)


def test_missing_unexpected_and_misshaped_parameters_are_named_in_one_sentence(published):
    def change(weights):
        del weights["bn1.bias"]
        weights["extra.weight"] = torch.zeros(2)
        weights["fc.weight"] = torch.zeros(5, 6)

    net = small()
    before = copy.deepcopy(net.state_dict())
    with pytest.raises(ValueError, match="do not fit the model") as error:
        load_weights(net, changed(published, change))
    assert str(error.value) == (
        "The weights in small-0123.pth do not fit the model: 1 missing (bn1.bias), 1 unexpected "
        "(extra.weight), 1 of another shape (fc.weight with (5, 6) in place of (3, 6))."
    )
    assert all(torch.equal(before[n], t) for n, t in net.state_dict().items())


@pytest.mark.parametrize(("n", "end"), [(3, ""), (4, ", …")])
def test_of_many_names_three_are_given(published, n, end):
    extra = [f"extra{i}" for i in range(n)]
    path = changed(published, lambda w: w.update({name: torch.zeros(1) for name in extra}))
    sentence = f": {n} unexpected (extra0, extra1, extra2{end})."
    with pytest.raises(ValueError, match=re.escape(sentence)):
        load_weights(small(), path)


def test_counters_of_batches_may_be_missing(published):
    def change(weights):
        for name in [n for n in weights if n.endswith("num_batches_tracked")]:
            del weights[name]

    left = load_weights(small(), changed(published, change))
    assert left == [n for n in small().state_dict() if n.endswith("num_batches_tracked")]


def test_the_head_can_be_left_out(published):
    net = small()
    net.fc = nn.Linear(6, 11)
    before = net.fc.weight.clone()
    assert load_weights(net, published, leave_out=["fc"]) == ["fc.weight", "fc.bias"]
    assert torch.equal(net.fc.weight, before)
    weights = torch.load(published, weights_only=True)
    assert torch.equal(net.conv1.weight, weights["conv1.weight"])
    assert load_weights(net, published, leave_out="fc") == ["fc.weight", "fc.bias"]


def test_a_head_that_the_file_does_not_have_can_be_left_out(published):
    def change(weights):
        del weights["fc.weight"], weights["fc.bias"]

    assert load_weights(small(), changed(published, change), leave_out=("fc", "layer2.0")) == [
        *(n for n in small().state_dict() if n.startswith(("layer2.0.", "fc.")))
    ]


def test_what_is_left_out_must_be_in_the_model(published):
    with pytest.raises(ValueError, match="leave_out must name modules .* it has no 'f' with"):
        load_weights(small(), published, leave_out=["f"])


@pytest.mark.parametrize(
    "content", [b"", b"not weights", b"PK\x03\x04 nor a zip"], ids=["empty", "text", "zip"]
)
def test_a_file_that_torch_save_did_not_make(tmp_path, content):
    path = tmp_path / "weights.pth"
    path.write_bytes(content)
    with pytest.raises(ValueError, match="weights.pth must be a file of tensors"):
        load_weights(small(), path)


class Payload:
    """Unpickling it calls a function."""

    called = False

    def __reduce__(self):
        return (setattr, (Payload, "called", True))


def test_a_file_cannot_run_code(tmp_path):
    path = tmp_path / "weights.pth"
    torch.save({"conv1.weight": Payload()}, path)
    with pytest.raises(ValueError, match="cannot be read as one .UnpicklingError"):
        load_weights(small(), path)
    assert not Payload.called


@pytest.mark.parametrize("content", [[torch.zeros(2)], {"epoch": 3}, {1: torch.zeros(2)}])
def test_a_file_that_holds_something_else(tmp_path, content):
    path = tmp_path / "weights.pth"
    torch.save(content, path)
    with pytest.raises(ValueError, match="must hold a state_dict, which is names and tensors"):
        load_weights(small(), path)


# Cutting


@pytest.mark.parametrize("model", [small(), simple_cnn(channels=(4, 6), num_classes=3)])
def test_body_and_head_are_the_model(model):
    x = torch.randn(2, 1, 12, 12)
    body, head = body_and_head(model.eval())
    assert body(x).shape[:2] == (2, 6)
    torch.testing.assert_close(head(body(x)), model(x), rtol=0, atol=0)
    assert {id(p) for m in (body, head) for p in m.parameters()} == {
        id(p) for p in model.parameters()
    }


def test_the_parts_keep_their_names():
    net = small()
    body, head = body_and_head(net)
    assert [n for m in (body, head) for n in m.state_dict()] == list(net.state_dict())
    assert list(dict(head.named_children())) == ["avgpool", "flatten", "fc"]
    assert head.fc is net.fc


def test_a_body_can_load_published_weights_itself(published):
    changed(published, lambda w: (w.pop("fc.weight"), w.pop("fc.bias")))
    assert load_weights(body_and_head(small())[0], published) == []


def test_cut_elsewhere():
    body, head = body_and_head(small(), "layer2")
    assert list(dict(body.named_children())) == ["conv1", "bn1", "relu", "maxpool", "layer1"]
    assert next(iter(dict(head.named_children()))) == "layer2"


@pytest.mark.parametrize("cut", ["conv1", "layer9"])
def test_a_cut_must_leave_two_parts(cut):
    with pytest.raises(ValueError, match=f"cut must be one of bn1, .*, fc, but it is '{cut}'"):
        body_and_head(small(), cut)


def test_a_model_without_pooling_needs_a_cut():
    model = nn.Sequential(nn.Linear(3, 4), nn.ReLU(), nn.Linear(4, 2))
    with pytest.raises(ValueError, match="cut must be given .*: one of 1, 2"):
        body_and_head(model)
    assert len(body_and_head(model, "2")[0]) == 2


def test_only_models_that_are_the_sequence_of_their_children_are_cut():
    with pytest.raises(TypeError, match="a ResNet or an nn.Sequential.* it is a BasicBlock"):
        body_and_head(BasicBlock(3, 3))


def test_a_new_head():
    head = new_head(6, 5)
    x = torch.randn(2, 6, 3, 4)
    torch.testing.assert_close(head(x), F.linear(x.mean((2, 3)), head.fc.weight, head.fc.bias))
    assert list(dict(head.named_children())) == ["avgpool", "flatten", "fc"]
    assert new_head(1, 1)(torch.randn(1, 1, 2, 2)).shape == (1, 1)


@pytest.mark.parametrize(("sizes", "name"), [((0, 3), "in_features"), ((3, 0), "num_classes")])
def test_a_new_head_has_sizes(sizes, name):
    with pytest.raises(ValueError, match=f"^{name} must be a whole number of at least 1, .*0.$"):
        new_head(*sizes)


# Freezing


def one_step(model: nn.Module, seed: int = 0) -> dict[str, torch.Tensor]:
    """Train a step, as a learner does, and return what changed."""
    before = {n: t.clone() for n, t in model.state_dict().items()}
    model.train()
    torch.manual_seed(seed)
    loss = model(torch.randn(8, 1, 8, 8) * 3 + 1).square().sum()
    parameters = [p for p in model.parameters() if p.requires_grad]
    optimizer = torch.optim.SGD(parameters, lr=0.01)
    loss.backward()
    optimizer.step()
    model.zero_grad()
    return {n for n, t in model.state_dict().items() if not torch.equal(before[n], t)}


def in_two_parts() -> nn.Sequential:
    return nn.Sequential(body_and_head(small())[0], new_head(6, 3))


def test_a_frozen_body_stays_as_it_is_in_training():
    net = in_two_parts()
    freeze(net[0])
    assert not any(p.requires_grad for p in net[0].parameters())
    assert one_step(net) == {"1.fc.weight", "1.fc.bias"}


def test_a_frozen_batch_norm_computes_with_its_statistics():
    net = randomised(in_two_parts())
    freeze(net[0])
    x = torch.randn(4, 1, 8, 8)
    torch.testing.assert_close(net.train()(x), net.eval()(x), rtol=0, atol=0)


def test_the_norms_of_a_frozen_body_may_train():
    net = in_two_parts()
    freeze(net[0], train_norm=True)
    changed_names = one_step(net)
    norms = [n for n, m in net.named_modules() if isinstance(m, nn.BatchNorm2d)]
    assert changed_names == {"1.fc.weight", "1.fc.bias"} | {
        f"{n}.{part}"
        for n in norms
        for part in ("weight", "bias", "running_mean", "running_var", "num_batches_tracked")
    }


def test_unfrozen_it_trains_as_before():
    net = in_two_parts()
    freeze(net[0])
    unfreeze(net)
    assert all(p.requires_grad for p in net.parameters())
    assert all(not m._forward_pre_hooks for m in net.modules())
    assert one_step(net) == set(net.state_dict())


@pytest.mark.parametrize("training", [True, False])
def test_unfreezing_in_the_middle_takes_effect_at_once(training):
    net = in_two_parts()
    freeze(net)
    net.train(training)
    net(torch.randn(2, 1, 8, 8))
    unfreeze(net)
    assert all(m.training == training for m in net.modules())


def test_freezing_twice_and_then_with_norms_that_train():
    net = in_two_parts()
    freeze(net[0])
    freeze(net[0])
    assert all(len(m._forward_pre_hooks) <= 1 for m in net.modules())
    freeze(net[0], train_norm=True)
    assert "0.bn1.running_mean" in one_step(net)


def test_a_part_of_a_frozen_body_can_be_unfrozen():
    net = in_two_parts()
    freeze(net[0])
    unfreeze(net[0].layer2)
    changed_names = one_step(net)
    assert changed_names == {n for n in net.state_dict() if n.startswith(("0.layer2.", "1."))}


def test_a_copy_of_a_frozen_model_is_frozen_and_can_be_unfrozen():
    net = in_two_parts()
    freeze(net[0])
    twin = copy.deepcopy(net)
    assert one_step(twin) == {"1.fc.weight", "1.fc.bias"}
    unfreeze(twin)
    assert one_step(twin) == set(twin.state_dict())
    assert one_step(net) == {"1.fc.weight", "1.fc.bias"}


def test_freezing_leaves_no_trace_in_the_weights():
    net = in_two_parts()
    names = list(net.state_dict())
    freeze(net)
    assert list(net.state_dict()) == names


@pytest.mark.parametrize("function", [freeze, unfreeze])
def test_only_modules_are_frozen(function):
    with pytest.raises(TypeError, match="module must be an nn.Module, but it is a list"):
        function([nn.Linear(2, 2)])


# Groups


def test_groups_are_cut_before_each_name():
    net = in_two_parts()
    groups = split_before("0.layer1", "0.layer2.1", "1")(net)
    named = {id(p): n for n, p in net.named_parameters()}
    names = [[named[id(p)] for p in group] for group in groups]
    assert names[0] == ["0.conv1.weight", "0.bn1.weight", "0.bn1.bias"]
    assert names[1][0] == "0.layer1.0.conv1.weight"
    assert names[2][0] == "0.layer2.1.conv1.weight"
    assert names[3] == ["1.fc.weight", "1.fc.bias"]
    assert [n for group in names for n in group] == [n for n, _ in net.named_parameters()]


def test_frozen_parameters_are_in_their_groups():
    net = in_two_parts()
    freeze(net[0])
    body, head = split_before("1")(net)
    assert not any(p.requires_grad for p in body)
    assert len(head) == 2


def test_without_a_name_there_is_one_group():
    assert [len(g) for g in split_before()(in_two_parts())] == [
        len(list(in_two_parts().parameters()))
    ]


def test_a_name_is_not_the_beginning_of_another():
    net = nn.Sequential(*(nn.Linear(2, 2) for _ in range(12)))
    assert [len(g) for g in split_before("1", "10")(net)] == [2, 18, 4]


def test_a_parameter_may_begin_a_group():
    assert [len(g) for g in split_before("bias")(nn.Linear(2, 2))] == [1, 1]


@pytest.mark.parametrize(
    ("names", "culprit"),
    [
        (("0",), "'0' of 0"),
        (("0.conv1", "1"), "'0.conv1' of 0.conv1, 1"),
        (("2",), "'2' of 2"),
        (("1", "0.layer1"), "'0.layer1' of 1, 0.layer1"),
        (("0.layer", "1"), "'0.layer' of 0.layer, 1"),
    ],
)
def test_a_name_that_begins_no_group_is_named(names, culprit):
    with pytest.raises(ValueError, match=f"names must be modules .*, but {culprit} is not"):
        split_before(*names)(in_two_parts())


@pytest.mark.parametrize(
    ("weight", "words"),
    [
        (torch.ones(2, 3, dtype=torch.int64), "1 of another kind .weight of torch.int64 in place"),
        (torch.full((2, 3), torch.nan), "1 with NaN .weight.$"),
    ],
)
def test_weights_of_another_kind_or_nan_are_not_loaded(tmp_path, weight, words):
    model = nn.Linear(3, 2)
    before = model.weight.clone()
    torch.save({"weight": weight, "bias": torch.zeros(2)}, tmp_path / "w.pth")
    with pytest.raises(ValueError, match=words[:-3] if words.endswith(".$") else words):
        load_weights(model, tmp_path / "w.pth")
    assert torch.equal(model.weight, before)


def test_a_model_of_one_child_has_no_two_parts():
    with pytest.raises(ValueError, match="^model must have at least two children, .* it has 1.$"):
        body_and_head(nn.Sequential(nn.AdaptiveAvgPool2d(1)))


def test_a_number_is_no_name_to_split_before():
    with pytest.raises(TypeError, match="^names must be names of modules, but one is 3.$"):
        split_before(3)
