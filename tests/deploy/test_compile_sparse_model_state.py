"""Networks that `compile_sparse` must not change: their states, their files, what they return."""

from __future__ import annotations

import copy
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from tests.support.compiled_nets import Odd, Walks, let_sparse_win, near, padded_encoder, parts
from tests.support.sparse_layers import pruned
from ws_learner.core.errors import UserError
from ws_learner.deploy.runtime import compile_sparse, load_sparse
from ws_learner.deploy.runtime import load as model_file
from ws_learner.deploy.runtime import selection as choice
from ws_learner.deploy.runtime.codegen.cpu import usable_isas
from ws_learner.deploy.runtime.graph import copied
from ws_learner.deploy.runtime.quantisation import RangeObserver

if not usable_isas():
    pytest.skip("no generated kernels here", allow_module_level=True)


@pytest.fixture(autouse=True)
def sparse_wins(monkeypatch: pytest.MonkeyPatch) -> None:
    let_sparse_win(monkeypatch)


@pytest.mark.parametrize("dtype", ["fp32", "int8", "auto"])
def test_wrong_stays_dense_in_every_type_and_on_every_processor(
    dtype: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model, x = Odd().eval(), torch.randn(20, 32)
    fast = compile_sparse(model, x, dtype=dtype, calibration=[x])
    assert near(fast(x), model(x))
    fast.save(tmp_path / "m.wsr")
    monkeypatch.setattr(model_file, "cpu_key", lambda: "another")
    assert near(load_sparse(tmp_path / "m.wsr", model)(x), model(x))


class Tuples(Odd):
    def forward(self, x: Tensor) -> tuple[Tensor | None, ...]:
        return None, x, super().forward(x)


class Masked(Odd):
    def forward(self, x: Tensor) -> Tensor:
        y = super().forward(x)
        y[:, 0] = -torch.inf
        return y


@pytest.mark.parametrize("kind", [Tuples, Masked])
def test_all_outputs_are_compared(kind: type[Odd]) -> None:
    model, x = kind().eval(), torch.randn(20, 32)
    fast = compile_sparse(model, x)
    assert fast.dense
    assert fast.wrong


def test_engines_are_not_compared_by_what_is_no_number() -> None:
    ones = torch.ones(4)
    assert not choice.is_sound(ones * torch.nan, ones, within=1e-3)
    assert not choice.is_sound(torch.tensor([5.0, 1]), torch.tensor([1, torch.inf]), within=1e-3)
    both = torch.tensor([1.0, torch.inf])
    assert choice.is_sound(both, both.clone(), within=1e-3)


def test_a_layer_with_a_forward_of_its_own() -> None:
    model, x = parts().eval(), torch.randn(20, 32)
    last = model[2]
    last.forward = lambda y: 3 * nn.functional.linear(y, last.weight, last.bias)
    fast = compile_sparse(model, x, dtype="int8", calibration=[x])
    wanted = model(x).detach()
    assert float((fast(x) - wanted).norm() / wanted.norm()) < 0.1


class Reversed(nn.Sequential):
    def __iter__(self) -> Iterator[nn.Module]:
        return iter(list(self._modules.values())[::-1])


def test_a_sequential_that_runs_backwards() -> None:
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(32, 32), nn.ReLU(), nn.Linear(32, 32))
    model, x = Reversed(*pruned(net, "4x1", 0.8)).eval(), torch.randn(20, 32)
    assert near(compile_sparse(model, x)(x), model(x))


def test_repeated_modules_and_settings_are_not_lost_in_a_file(tmp_path: Path) -> None:
    torch.manual_seed(0)
    relu = nn.ReLU()
    net = nn.Sequential(nn.Linear(32, 32), relu, nn.Linear(32, 32), relu)
    model, x = pruned(net, "4x1", 0.8).eval(), torch.randn(20, 32)
    path = tmp_path / "m.wsr"
    compile_sparse(model, x).save(path)
    with pytest.raises(UserError, match="load_sparse"):
        load_sparse(path)
    assert near(load_sparse(path, model)(x), model(x))
    pool = nn.Sequential(nn.Conv2d(1, 4, 3), nn.AvgPool2d(2, divisor_override=1)).eval()
    image = torch.randn(2, 1, 8, 8)
    compile_sparse(pool, image).save(path)
    assert near(load_sparse(path)(image), pool(image))
    norm = nn.Sequential(nn.Linear(8, 8), nn.LayerNorm(8, bias=False)).eval()
    compile_sparse(norm, torch.randn(2, 8)).save(path)
    assert near(load_sparse(path)(torch.ones(1, 8)), norm(torch.ones(1, 8)))


def test_auto_keeps_its_word_on_another_processor(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    torch.manual_seed(0)
    model = pruned(nn.Sequential(nn.Linear(64, 64)), "16x4", 0.8).eval()
    x = torch.randn(50, 64) * 1e-2
    x[0, 0], x[1, 1] = 4.0, -4.0
    fast = compile_sparse(model, x, dtype="auto", calibration=[x])
    assert not fast.bytes_allowed["0"]
    fast.save(tmp_path / "m.wsr")
    monkeypatch.setattr(model_file, "cpu_key", lambda: "another")
    again = load_sparse(tmp_path / "m.wsr")
    assert again.report()["kernel"].iloc[0].startswith("fp32")
    assert near(again(x), model(x))


def test_percentiles_of_inputs_that_are_rarely_something() -> None:
    seen = RangeObserver("percentile")
    words = torch.zeros(3, 30_522)
    words[range(3), range(3)] = 1.0
    seen.see(words)
    assert seen.settle().scale == pytest.approx(1 / 255, rel=1e-5)
    seen = RangeObserver()
    seen.see(torch.tensor([1.0, torch.nan, torch.inf]))
    assert seen.settle().scale == pytest.approx(1 / 255, rel=1e-5)


def test_tied_weights_are_not_rounded(tmp_path: Path) -> None:
    class Tied(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.head = pruned(nn.Sequential(nn.Linear(32, 48, bias=False)), "4x4", 0.5)[0]
            self.words = nn.Embedding(48, 32)
            self.words.weight = self.head.weight

        def forward(self, numbers: Tensor) -> Tensor:
            y: Tensor = self.head(self.words(numbers))
            return y

    torch.manual_seed(0)
    model, numbers = Tied().eval(), torch.arange(48)
    fast = compile_sparse(model, numbers, dtype="int8", calibration=[numbers])
    fast.save(tmp_path / "m.wsr")
    assert torch.equal(load_sparse(tmp_path / "m.wsr", model)(numbers), fast(numbers))


def test_a_compiled_sequential_may_be_changed() -> None:
    model, x = parts().eval(), torch.randn(20, 32)
    fast = compile_sparse(model, x)
    fast.model.append(nn.Tanh())
    assert near(fast(x), model(x).tanh())
    del fast.model[3]
    held = fast.model[1].register_forward_hook(lambda module, places, out: out + 1)
    assert near(fast(x), model[2](model[1](model[0](x)) + 1))
    held.remove()
    assert near(fast(x), model(x))
    assert near(fast.model[2:](fast.model[:2](x)), model(x))
    assert near(fast.model(input=x), model(x))


def test_networks_that_ask_their_layers(tmp_path: Path) -> None:
    class Asks(Odd):
        def forward(self, x: Tensor) -> Tensor:
            x = x.to(next(self.parameters()).device)
            assert self.net[0].in_features == 32
            assert self.net[2].out_features == 32
            y: Tensor = self.net[2](input=self.net[1](self.net[0](input=x)))
            return y

    model, x = Asks().eval(), torch.randn(20, 32)
    fast = compile_sparse(model, x)
    assert not fast.dense
    assert near(fast(x), model(x))


@pytest.mark.parametrize("last", [False, True])
def test_views_as_the_layer_leaves_them(last: bool) -> None:
    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.c = nn.Conv2d(8, 16, 1)

        def forward(self, x: Tensor) -> Tensor:
            y: Tensor = self.c(x)
            return y.permute(0, 2, 3, 1).view(-1, 16)

    torch.manual_seed(0)
    model: nn.Module = pruned(nn.Sequential(Net()), "4x1", 0.8).eval()[0]
    model = model.to(memory_format=torch.channels_last)
    x = torch.randn(2, 8, 6, 6)
    x = x.contiguous(memory_format=torch.channels_last) if last else x
    assert near(compile_sparse(model, x)(x), model(x))


@pytest.mark.parametrize(
    "outputs",
    [lambda y: ("logits", y), lambda y: {"name": "logits", "y": y}, lambda y: y > 0],
    ids=["text in a tuple", "text in a dict", "bool"],
)
def test_whatever_is_returned(outputs: Callable[[Tensor], object]) -> None:
    class Net(Walks):
        def forward(self, x: Tensor) -> object:
            return outputs(self.net(x))

    x = torch.randn(20, 32)
    fast = compile_sparse(Net().eval(), x)
    assert type(fast(x)) is type(Net().eval()(x))


def test_nothing_of_the_owners_changes() -> None:
    class Counts(Walks):
        def __init__(self) -> None:
            super().__init__()
            self.register_buffer("n", torch.zeros(()))

        def forward(self, x: Tensor) -> Tensor:
            self.n += 1
            return self.net(x.relu_())

    model, x = Counts().eval(), torch.randn(20, 32)
    before = x.clone()
    fast = compile_sparse(model, x)
    assert float(model.n) == 0
    assert float(fast.state_dict()["n"]) == 0
    assert torch.equal(x, before)


def test_a_single_layer_and_its_names() -> None:
    layer = pruned(nn.Sequential(nn.Linear(32, 32)), "4x1", 0.8)[0].eval()
    fast = compile_sparse(layer, torch.randn(4, 32))
    assert fast.state_dict().keys() == layer.state_dict().keys()
    with pytest.raises(UserError, match="dense model"):
        fast.load_state_dict(layer.state_dict())


@pytest.mark.parametrize("inputs", [None, 3, [], [[1.0]], torch.zeros(2, 3).numpy()])
def test_inputs_that_are_none(inputs: object) -> None:
    with pytest.raises(UserError, match="example_inputs"):
        compile_sparse(parts(), inputs)
    x = torch.randn(4, 32)
    with pytest.raises(UserError, match="calibration"):
        compile_sparse(parts(), x, dtype="int8", calibration=3 if inputs is None else [inputs])


def test_a_bare_tensor_is_one_batch_of_calibration(monkeypatch: pytest.MonkeyPatch) -> None:
    x = torch.randn(400, 32)
    x[399, 0] = 50.0
    fast = compile_sparse(parts(), x[:8], dtype="int8", calibration=x)
    source = fast.datas["0"].source
    assert source is not None
    assert source.scale * 255 > 50


def test_loading_under_another_default_type(tmp_path: Path) -> None:
    model, x = parts().eval(), torch.randn(20, 32)
    compile_sparse(model, x).save(tmp_path / "m.wsr")
    torch.set_default_dtype(torch.float64)
    try:
        got = load_sparse(tmp_path / "m.wsr")(x)
    finally:
        torch.set_default_dtype(torch.float32)
    assert near(got, model(x))


class Sets(Walks):
    """Fills a buffer at the first call, and remembers that in an attribute."""

    def __init__(self) -> None:
        super().__init__()
        self.ready = False
        self.register_buffer("t", torch.zeros(32))

    def forward(self, x: Tensor) -> Tensor:
        if not self.ready:
            self.t.copy_(torch.arange(32.0))
            self.ready = True
        y: Tensor = self.net(x) + self.t
        return y


class Grows(Walks):
    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("places", torch.zeros(1))
        self.register_buffer("wide", torch.arange(32.0).expand(4, 32))

    def forward(self, x: Tensor) -> Tensor:
        if len(self.places) != len(x):
            self.places = torch.arange(len(x)).float()
        y: Tensor = self.net(x) + self.places[:, None] + self.wide[0]
        return y


class Sums(Walks):
    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("b", torch.zeros(32))

    def forward(self, x: Tensor) -> Tensor:
        x.add_(1)
        self.b += x.mean(0)
        y: Tensor = self.net(x) + self.b
        return y


@pytest.mark.parametrize("kind", [Sets, Grows, Sums])
def test_networks_that_change_themselves(kind: type[Walks], tmp_path: Path) -> None:
    torch.manual_seed(0)
    model, x = kind().eval(), torch.randn(20, 32)
    fast = compile_sparse(model, x)
    assert not fast.dense
    fast.save(tmp_path / "m.wsr")
    again, fresh = load_sparse(tmp_path / "m.wsr", model), copy.deepcopy(model)
    wanted = fresh(x.clone())
    assert near(fast(x.clone()), wanted)
    assert near(again(x.clone()), wanted)


@pytest.mark.parametrize(
    "cut",
    [lambda x: x[:, :, 1:], lambda x: x.transpose(2, 3), lambda x: x[:, :1].expand(-1, 4, -1, -1)],
    ids=["cut", "transposed", "expanded"],
)
def test_images_that_are_neither_plain_nor_channels_last(cut: Callable[[Tensor], Tensor]) -> None:
    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.c = pruned(nn.Sequential(nn.Conv2d(4, 16, 3)), "4x1", 0.8)[0]

        def forward(self, x: Tensor) -> Tensor:
            y: Tensor = self.c(cut(x))
            return y.view(len(y), -1)

    model, x = Net().eval(), torch.randn(2, 4, 9, 9)
    assert near(compile_sparse(model, x)(x), model(x))


def test_tensors_in_lists_are_inputs_and_stay_the_owners() -> None:
    class Net(Walks):
        def forward(self, parts: list[Tensor]) -> Tensor:
            parts[0].add_(1)
            y: Tensor = self.net(parts[0] + parts[1])
            return y

    model, x = Net().eval(), torch.randn(20, 32)
    before = x.clone()
    fast = compile_sparse(model, ([x, x.clone()],))
    assert torch.equal(x, before)
    assert near(fast([x.clone(), x]), model([x.clone(), x]))


def test_a_small_output_beside_a_large_one() -> None:
    class Net(Odd):
        def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
            return super().forward(x), self.net(x) * 1e5

    assert compile_sparse(Net().eval(), torch.randn(20, 32)).wrong


def test_a_layer_that_holds_more() -> None:
    class Net(Walks):
        def __init__(self) -> None:
            super().__init__()
            self.net[0].register_buffer("mask", torch.arange(48.0))

        def forward(self, x: Tensor) -> Tensor:
            y: Tensor = self.net[2](self.net[0](x) * self.net[0].mask)
            return y

    model, x = Net().eval(), torch.randn(20, 32)
    assert near(compile_sparse(model, x)(x), model(x))


def test_autocast_within() -> None:
    class Net(Walks):
        def forward(self, x: Tensor) -> Tensor:
            with torch.autocast("cpu", dtype=torch.bfloat16):
                y: Tensor = self.net(x)
            return y

    model, x = Net().eval(), torch.randn(20, 32)
    got, wanted = compile_sparse(model, x)(x).float(), model(x).detach().float()
    assert float((got - wanted).norm() / wanted.norm()) < 0.02


def test_a_model_with_a_lock() -> None:
    model = parts()
    model.lock = threading.Lock()  # type: ignore[assignment]
    with pytest.raises(UserError, match="cannot be copied"):
        compile_sparse(model, torch.randn(2, 32))


def test_an_encoder_with_padding_from_a_file(tmp_path: Path) -> None:
    model, x, mask = padded_encoder()
    fast = compile_sparse(model, {"src": x, "src_key_padding_mask": mask})
    fast.save(tmp_path / "m.wsr")
    again = load_sparse(tmp_path / "m.wsr", model)
    got = again(x, src_key_padding_mask=mask)
    assert near(got[~mask], fast(x, src_key_padding_mask=mask)[~mask])


def test_copies_for_trials_share_the_weights_of_plain_layers_only() -> None:
    net = nn.Sequential(nn.Linear(4, 3), nn.BatchNorm1d(3), nn.Conv2d(1, 2, 1))
    twin = copied(net, share=True)
    for place in (0, 2):
        assert twin[place] is not net[place]  # type: ignore[index]
        assert twin[place].weight is net[place].weight  # type: ignore[index]
    assert twin[1].weight is not net[1].weight  # type: ignore[index]
    assert twin[1].running_mean is not net[1].running_mean  # type: ignore[index]
    whole = copied(net)
    owners = {p.data_ptr() for p in net.parameters()}
    assert not owners & {p.data_ptr() for p in whole.parameters()}


def test_a_network_trained_in_channels_last_runs_in_row_order(tmp_path: Path) -> None:
    """Else each of our kernels would copy its input: 1.8 times as slow on ResNet-20."""
    model = nn.Sequential(
        nn.Conv2d(8, 16, 3, padding=1), nn.BatchNorm2d(16), nn.ReLU(), nn.Conv2d(16, 16, 3)
    ).eval()
    last = copy.deepcopy(model).to(memory_format=torch.channels_last)
    x = torch.randn(2, 8, 9, 9)
    fast = compile_sparse(last, x)
    fast.save(tmp_path / "m.wsr")
    for one in (fast, load_sparse(tmp_path / "m.wsr", last)):
        assert all(tensor.is_contiguous() for tensor in one.state_dict().values())
        assert one(x).is_contiguous()
        assert near(one(x), model(x))
    assert not last[0].weight.is_contiguous()  # the given one stays as it is
