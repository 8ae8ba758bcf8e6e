"""Networks that `compile_sparse` must not change: odd callers, odd parts, odd surroundings."""

from __future__ import annotations

import copy
import pickle
from functools import partial

import pytest
import torch
from torch import Tensor, nn

from tests.support.compiled_nets import Odd, Walks, let_sparse_win, near, padded_encoder, parts
from tests.support.joined import chains_of
from tests.support.sparse_layers import pruned
from ws_learner.core.errors import UserError
from ws_learner.deploy.runtime import compile_sparse
from ws_learner.deploy.runtime import selection as choice
from ws_learner.deploy.runtime.autotune import fastest
from ws_learner.deploy.runtime.codegen import native_program as program
from ws_learner.deploy.runtime.codegen.cpu import usable_isas
from ws_learner.deploy.runtime.modules import Geometry, LayerData, Replaced
from ws_learner.deploy.runtime.quantisation import InputScale
from ws_learner.training.metric_spec import MetricSpec

if not usable_isas():
    pytest.skip("no generated kernels here", allow_module_level=True)


@pytest.fixture(autouse=True)
def sparse_wins(monkeypatch: pytest.MonkeyPatch) -> None:
    let_sparse_win(monkeypatch)


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
    said = capsys.readouterr().err
    assert "even with dense layers" in said
    assert said.endswith("forward is not determined by its layers; keeping the dense model\n")
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
    model, x, mask = padded_encoder()
    fast = compile_sparse(model, {"src": x, "src_key_padding_mask": mask})
    assert any(isinstance(m, Replaced) for m in fast.model.modules())
    got = fast(src=x, src_key_padding_mask=mask)
    assert near(got[~mask], model(src=x, src_key_padding_mask=mask)[~mask])
    assert model.use_nested_tensor


@pytest.mark.long
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
    from ws_learner.deploy.runtime.codegen import parallel

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


def test_every_example_counts_alike_in_a_metric() -> None:
    batches = [(torch.randn(size, 32), torch.randint(32, (size,))) for size in (4, 1)]
    model = parts().eval()
    fast = compile_sparse(model, batches[0][0])
    losses = partial(nn.functional.cross_entropy, reduction="none")
    metric = MetricSpec(losses, name="log-loss", unit="nats", higher_is_better=False)
    found = fast.compare(model, batches, metric)
    inputs, targets = (torch.cat(parts) for parts in zip(*batches, strict=True))
    assert found["fp32"] == pytest.approx(losses(model(inputs), targets).mean().item(), rel=1e-5)
    assert found["compiled"] == pytest.approx(found["fp32"], rel=1e-5)
    with pytest.raises(UserError, match="a score for each example"):
        fast.compare(model, batches, nn.functional.cross_entropy)
