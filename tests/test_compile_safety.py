"""Networks that `compile_sparse` must not change: odd callers, odd parts, odd surroundings."""

from __future__ import annotations

import copy
import pickle
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from tests.support.joined import chains_of
from tests.support.sparse_layers import pruned
from ws_learner.errors import UserError
from ws_learner.runtime import choice, compile_sparse, load_sparse, model_file, program, whole
from ws_learner.runtime.cpu import usable_isas
from ws_learner.runtime.layers import Geometry, LayerData, Replaced
from ws_learner.runtime.quantisation import InputScale, Observer
from ws_learner.runtime.trial import Trial, fastest

if not usable_isas():
    pytest.skip("no generated kernels here", allow_module_level=True)


@pytest.fixture(autouse=True)
def sparse_wins(monkeypatch: pytest.MonkeyPatch) -> None:
    """No clock decides what is tested: a sparse kernel wins, and so does the whole."""

    def sparse(runs: dict[str, object], base: str, **_: object) -> Trial:
        names = [n for n in runs if n.startswith(("fp32", "int8"))] or [base]
        return Trial(winner=names[-1], speedup=2.0, seconds=dict.fromkeys(runs, 1.0))

    monkeypatch.setattr(choice, "fastest", sparse)
    monkeypatch.setattr(
        whole,
        "fastest",
        lambda runs, base, **_: Trial(winner="compiled", speedup=2, seconds=dict.fromkeys(runs, 1)),
    )


def parts(width: int = 32, *, more: tuple[nn.Module, ...] = ()) -> nn.Sequential:
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(width, 48), nn.ReLU(), *more, nn.Linear(48, width))
    return pruned(net, "4x1", 0.8)


def near(a: Tensor, b: Tensor) -> bool:
    return bool(torch.allclose(a, b, atol=1e-5, rtol=1e-4))


class Walks(nn.Module):
    """Keeps what each part gives."""

    def __init__(self) -> None:
        super().__init__()
        self.net = parts()

    def forward(self, x: Tensor) -> Tensor:
        found = []
        for part in self.net:
            x = part(x)
            found.append(x)
        return torch.cat(found, 1)


class Picks(Walks):
    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.net[2](self.net[1](self.net[0](x)) + 1)
        return y + self.net(x)


class Scale(nn.Identity):
    def forward(self, x: Tensor) -> Tensor:
        return x.cos()


class AlwaysDrops(nn.Dropout):
    def forward(self, x: Tensor) -> Tensor:
        return x * (torch.arange(x.shape[-1]) % 2)


@pytest.mark.parametrize("make", [Walks, Picks])
def test_parts_of_a_sequential_may_be_used_one_by_one(make: type[Walks]) -> None:
    model, x = make().eval(), torch.randn(20, 32)
    fast = compile_sparse(model, x)
    assert any(isinstance(m, Replaced) for m in fast.model.modules())
    assert near(fast(x), model(x))
    assert near(copy.deepcopy(fast)(x), model(x))


@pytest.mark.parametrize("part", [Scale(), AlwaysDrops()])
def test_subclasses_of_what_does_nothing_may_do_something(part: nn.Module) -> None:
    model, x = parts(more=(part,)).eval(), torch.randn(20, 32)
    assert near(compile_sparse(model, x)(x), model(x))


def test_dropout_does_nothing_even_after_train() -> None:
    model, x = parts(more=(nn.Dropout(),)).eval(), torch.randn(20, 32)
    fast = compile_sparse(model, x)
    assert len(chains_of(fast.model)) == 1
    fast.train()
    assert not any(m.training for m in fast.modules())
    assert near(fast(x), model(x))


@pytest.mark.parametrize("where", [0, 1])
def test_hooks_go_on_seeing_and_changing(where: int) -> None:
    model, x = parts().eval(), torch.randn(20, 32)
    model[where].register_forward_hook(lambda module, places, out: 2 * out)
    fast = compile_sparse(model, x)
    assert near(fast(x), model(x))
    assert (type(fast.model[0]) is nn.Linear) == (where == 0)


@pytest.mark.parametrize("kind", [torch.bfloat16, torch.float64])
def test_pytorchs_defaults_are_not_ours(kind: torch.dtype) -> None:
    model, x = parts().eval(), torch.randn(20, 32)
    fast, wanted = compile_sparse(model, x), model(x)
    torch.set_default_dtype(kind)
    try:
        got = fast(x)
    finally:
        torch.set_default_dtype(torch.float32)
    assert got.dtype == torch.float32
    assert near(got, wanted)
    with torch.device("meta"):
        assert near(fast(x), wanted)


def test_a_layer_whose_answers_change_is_found_out(capsys: pytest.CaptureFixture[str]) -> None:
    model, x = Odd().eval(), torch.randn(20, 32)
    fast = compile_sparse(model, x)
    assert near(fast(x), model(x))
    assert "the model stays dense" in capsys.readouterr().err
    assert (fast.report()["kernel"] == "dense").all()


def test_auto_looks_at_every_layer() -> None:
    torch.manual_seed(0)

    class Two(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            one, other = (pruned(nn.Sequential(nn.Linear(64, 64)), "4x4", 0.8) for _ in range(2))
            self.calm, self.wild = one[0], other[0]

        def forward(self, x: Tensor) -> Tensor:
            wide = torch.cat([x[:, :1] * 20_000, x[:, 1:]], 1)
            y: Tensor = self.calm(x) + self.wild(wide)
            return y

    model = Two().eval()
    with torch.no_grad():
        model.wild.weight[:, :4] = 0  # the outlier itself is not read, its range is
    x = torch.randn(64, 64)
    kernels = compile_sparse(model, x, dtype="auto", calibration=[x]).report().set_index("layer")
    assert kernels.loc["calm", "kernel"].startswith("int8")
    assert kernels.loc["wild", "kernel"].startswith("fp32")


@pytest.mark.parametrize(("padding", "dilation"), [((2, 1), (1, 1)), ((0, 0), (1, 3))])
def test_byte_convolutions_that_onednn_gets_wrong_are_left_out(
    padding: tuple[int, int], dilation: tuple[int, int]
) -> None:
    shape = Geometry(kernel=(2, 2), stride=(1, 1), padding=padding, dilation=dilation)
    source = InputScale.of_range(-1, 1)
    data = LayerData(weight=torch.randn(7, 12).numpy(), bias=None, geometry=shape, source=source)
    assert data.rival("dense int8") is None


def test_an_engine_with_wrong_answers_never_wins() -> None:
    wanted = torch.randn(30, 8)
    assert choice.is_sound(wanted * 1.09, wanted, within=0.1)
    assert not choice.is_sound(wanted * 1.11, wanted, within=0.1)
    assert not choice.is_sound(wanted.flip(0), wanted, within=0.1)
    assert not choice.is_sound(wanted[:4], wanted, within=0.1)


def test_weights_can_still_be_looked_at() -> None:
    model, x = parts().eval(), torch.randn(20, 32)
    fast = compile_sparse(model, x)
    layer = fast.model[0]
    assert isinstance(layer, Replaced)
    assert torch.equal(layer.weight, model[0].weight)
    assert torch.equal(layer.bias, model[0].bias)
    held, wanted = fast.state_dict(), model.state_dict()
    assert held.keys() == wanted.keys()
    assert all(torch.equal(held[name], wanted[name]) for name in wanted)
    assert [name for name in nn.Sequential(fast).state_dict()] == [f"0.{name}" for name in wanted]


def test_an_encoder_with_padding() -> None:
    torch.manual_seed(0)
    layer = nn.TransformerEncoderLayer(32, 4, 64, batch_first=True)
    model = pruned(nn.Sequential(nn.TransformerEncoder(layer, 2)), "4x1", 0.8)[0].eval()
    x, mask = torch.randn(3, 10, 32), torch.zeros(3, 10, dtype=torch.bool)
    mask[1, 6:] = True
    fast = compile_sparse(model, {"src": x, "src_key_padding_mask": mask})
    assert any(isinstance(m, Replaced) for m in fast.model.modules())
    got = fast(src=x, src_key_padding_mask=mask)
    assert near(got[~mask], model(src=x, src_key_padding_mask=mask)[~mask])
    assert model.use_nested_tensor


def test_views_after_convolutions() -> None:
    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a, self.b = nn.Conv2d(3, 32, 3), nn.Conv2d(32, 64, 3)

        def forward(self, x: Tensor) -> Tensor:
            return self.b(self.a(x).relu()).view(len(x), -1)

    model, x = Net().eval(), torch.randn(1, 3, 12, 12)
    fast = compile_sparse(model, x)
    assert near(fast(x), model(x))
    data = fast.datas["a"]
    for name in ("dense channels_last", "dense onednn"):
        run = data.rival(name)
        if run is not None:
            assert Replaced(data, partial(_same, run), threads=1)(x).is_contiguous()


def _same(value: object) -> object:
    return value


def test_what_is_not_a_number_stays() -> None:
    model, x = parts().eval(), torch.randn(20, 32)
    x[3] = float("nan")
    head = nn.Sequential(model[0], model[1]).eval()
    got, wanted = compile_sparse(head, x.nan_to_num())(x), head(x)
    assert torch.equal(got.isnan(), wanted.isnan())
    assert bool(wanted[3].isnan().any())


def test_masks_that_are_not_permanent() -> None:
    from torch.nn.utils import prune

    model = parts()
    prune.l1_unstructured(model[0], "weight", amount=0.5)
    model(torch.randn(2, 32))
    with pytest.raises(UserError, match=r"prune\.remove"):
        compile_sparse(model, torch.randn(2, 32))


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_neither_traced_nor_pickled() -> None:
    model, x = parts().eval(), torch.randn(20, 32)
    fast = compile_sparse(model, x)
    fast(x)
    with pytest.raises(UserError, match="traced"):
        torch.jit.trace(fast, x)
    with pytest.raises(UserError, match="save"):
        pickle.dumps(fast)
    with pytest.raises(UserError, match="save"):
        pickle.dumps(chains_of(fast.model)[0])


def test_a_training_part_is_put_back_nowhere() -> None:
    model, x = parts(), torch.randn(20, 32)
    model.eval()
    model[2].train()
    compile_sparse(model, x)
    assert [m.training for m in model] == [False, False, True]


@pytest.mark.filterwarnings("ignore:Initializing zero-element")
def test_a_layer_of_no_outputs_is_left_alone() -> None:
    model = nn.Sequential(nn.Linear(5, 8), nn.ReLU(), nn.Linear(8, 4)).eval()
    model.append(nn.Linear(4, 0))
    assert compile_sparse(model, torch.randn(3, 5))(torch.randn(2, 5)).shape == (2, 0)


def test_a_clock_that_stands_still(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("time.thread_time", lambda: 1.0)
    found = fastest({"a": lambda: 1, "b": lambda: 2}, "a")
    assert found.winner == "a"


def test_an_interrupted_pool_waits_for_its_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    from ws_learner.runtime import parallel

    done: list[int] = []

    def slow(number: int) -> None:
        import time

        if number == 0:
            raise KeyboardInterrupt
        time.sleep(0.1)
        done.append(number)

    with pytest.raises(KeyboardInterrupt):
        parallel.run_parts(slow, 3)
    assert sorted(done) == [1, 2]
    assert program.run_parts is parallel.run_parts


def test_metrics_of_one_number() -> None:
    batches = [(torch.randn(4, 32), torch.randint(32, (4,))) for _ in range(2)]
    model = parts().eval()
    fast = compile_sparse(model, batches[0][0])
    found = fast.compare(model, batches, nn.functional.cross_entropy)
    assert found["compiled"] == pytest.approx(found["fp32"], rel=1e-5)


class Odd(nn.Module):
    """Answers by its layer's kind, which compiling changes."""

    def __init__(self) -> None:
        super().__init__()
        self.net = parts()

    def forward(self, x: Tensor) -> Tensor:
        return self.net(x) * (1 if type(self.net[0]) is nn.Linear else 3)


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
    seen = Observer("percentile")
    seen.see(torch.eye(30_522)[:3])
    assert seen.settle().scale == pytest.approx(1 / 255, rel=1e-5)
    seen = Observer()
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
