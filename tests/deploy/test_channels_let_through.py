"""Operations that dead channels leave across, how many go, and what a wrong cut leaves behind."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from tests.support.compiled_nets import let_sparse_win, near
from tests.support.dead_channels import with_random_norms, zero_channels
from tests.support.nets_people_bring.nets import NETS
from ws_learner.core.errors import UserError
from ws_learner.deploy.onnx.export import export_onnx
from ws_learner.deploy.runtime.codegen.cpu import usable_isas
from ws_learner.deploy.runtime.compile import compile_sparse
from ws_learner.deploy.shrinking.crop import crop
from ws_learner.deploy.shrinking.shrink import shrink

# A constant channel comes out as one, and a reader's bias stands for it.
CONSTANT: dict[str, Callable[[], nn.Module]] = {
    "nearest": lambda: nn.Upsample(scale_factor=2),
    "bilinear": lambda: nn.Upsample(scale_factor=2, mode="bilinear"),
    "bicubic": lambda: nn.Upsample(scale_factor=2, mode="bicubic", align_corners=True),
    "reflect": lambda: nn.ReflectionPad2d(1),
    "replicate": lambda: nn.ReplicationPad2d(2),
    "instance norm": lambda: nn.InstanceNorm2d(12),
    "instance norm with weights": lambda: nn.InstanceNorm2d(12, affine=True),
    "statistics": lambda: nn.InstanceNorm2d(12, affine=True, track_running_stats=True),
    "slopes": lambda: nn.PReLU(12),
}


def net(*between: nn.Module, last: nn.Module | None = None) -> nn.Sequential:
    """Twelve channels, the first four of them dead."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(3, 12, 3), *between, last or nn.Conv2d(12, 2, 1)).double()
    zero_channels(with_random_norms(model), "0", slice(0, 4))
    return model


def images(side: int = 8) -> Tensor:
    return torch.randn(3, 3, side, side, dtype=torch.float64)


def assert_same(model: nn.Module, other: nn.Module, inputs: Tensor, most: float = 1e-9) -> None:
    with torch.no_grad():
        torch.testing.assert_close(other(inputs), model.eval()(inputs), rtol=most, atol=most)


@pytest.mark.parametrize("name", CONSTANT)
def test_dead_channels_leave_across_operations_that_keep_constants(name: str) -> None:
    model = net(CONSTANT[name](), nn.ReLU())
    shrunk = shrink(model, images())
    assert shrunk.model[0].weight.shape[0] == 8
    assert shrunk.model[3].weight.shape[1] == 8
    assert shrunk.obstacles == ()
    for tensor in [*shrunk.model[1].parameters(), *shrunk.model[1].buffers()]:
        assert tensor.dim() == 0 or len(tensor) == 8  # statistics lose the same channels
    assert_same(model, shrunk.model, images(11))


def test_an_instance_norm_makes_its_bias_of_a_dead_channel() -> None:
    model = net(nn.InstanceNorm2d(12, affine=True))
    norm, last = model[1], model[2]
    folded = last.bias + last.weight[:, :4, 0, 0] @ norm.bias[:4]
    shrunk = shrink(model, images())
    torch.testing.assert_close(shrunk.model[2].bias, folded, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("value", [0.0, 0.5])
def test_zeros_pass_zero_padding_and_other_constants_stay(value: float) -> None:
    model = net(nn.ReLU(), nn.ZeroPad2d(1))
    with torch.no_grad():
        model[0].bias[:4] = value
    shrunk = shrink(model, images())
    assert shrunk.model[0].weight.shape[0] == (12 if value else 8)
    assert [("position" in o.reason) for o in shrunk.obstacles] == ([True] if value else [])
    assert_same(model, shrunk.model, images(9))


def test_a_constant_that_depends_on_the_size_of_images_stays() -> None:
    # One value for all images of a size: the mean over a border of zeros.
    model = net(nn.ZeroPad2d(1), nn.AdaptiveAvgPool2d(1))
    shrunk = shrink(model, images())
    assert shrunk.model[0].weight.shape[0] == 12
    assert_same(model, shrunk.model, images(20))


def test_nothing_is_read_off_an_example_of_ones() -> None:
    class Residual(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.inner, self.last = nn.Linear(6, 6), nn.Linear(6, 2)

        def forward(self, x: Tensor) -> Tensor:
            out: Tensor = self.last(x + self.inner(x))
            return out

    torch.manual_seed(0)
    model = Residual()
    zero_channels(model, "inner", slice(0, 3))  # what is added is constant, the sum is not
    shrunk = shrink(model, torch.ones(4, 6))
    assert_same(model, shrunk.model, torch.randn(5, 6), 1e-5)
    assert shrunk.model.inner.weight.shape[0] == 6


def test_padding_modes_and_names() -> None:
    reflecting = nn.Conv2d(12, 2, 3, padding=1, padding_mode="reflect")
    for last in (nn.Conv2d(12, 2, 3, padding="valid"), reflecting):
        model = net(nn.ReLU(), last=last)
        shrunk = shrink(model, images())
        assert shrunk.model[0].weight.shape[0] == 8  # a reflected constant is a constant
        assert_same(model, shrunk.model, images(9))


class Gate(nn.Module):
    """Two halves of one layer's channels, multiplied."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.last = nn.Conv2d(3, 12, 1), nn.Conv2d(6, 2, 1)

    def forward(self, x: Tensor) -> Tensor:
        left, right = self.first(x).chunk(2, 1)
        out: Tensor = self.last(left.tanh() * right.sigmoid())
        return out


def test_the_halves_of_a_gate_leave_in_pairs() -> None:
    torch.manual_seed(0)
    model = Gate().double()
    with torch.no_grad():
        model.first.weight[[0, 6, 1, 8]] = 0  # 0 and 6 are a pair; 1 and 8 are of two others
        model.last.weight[:, 5] = 0  # unread: 5 and 11
    shrunk = shrink(model, images())
    kept = [1, 2, 3, 4, 7, 8, 9, 10]
    torch.testing.assert_close(shrunk.model.first.weight, model.first.weight[kept])
    assert_same(model, shrunk.model, images(5))


def test_a_cut_that_fails_is_undone_and_others_are_made() -> None:
    class Counting(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a, self.b, self.c = nn.Linear(6, 8), nn.Linear(8, 10), nn.Linear(10, 2)

        def forward(self, x: Tensor) -> Tensor:
            x = self.a(x).relu()
            out: Tensor = self.c(self.b(x).relu()) * x.shape[1]
            return out

    torch.manual_seed(0)
    model = Counting().double()
    for name in ("a", "b"):
        zero_channels(model, name, slice(0, 3))
    shrunk = shrink(model, torch.randn(4, 6, dtype=torch.float64))
    assert torch.equal(shrunk.model.a.weight, model.a.weight)
    assert shrunk.model.b.weight.shape == (7, 8)
    (obstacle,) = shrunk.obstacles
    assert obstacle.layer == "a"
    assert "outputs differ" in obstacle.reason
    assert_same(model, shrunk.model, torch.randn(5, 6, dtype=torch.float64))


def test_where_nothing_can_go_the_network_is_the_same_to_the_bit() -> None:
    model, example = NETS["weight norm"]()
    zero_channels(model, "0", slice(0, 5))
    shrunk = shrink(model, example)
    wanted, got = model.eval().state_dict(), shrunk.model.state_dict()
    assert wanted.keys() == got.keys()
    assert all(torch.equal(got[name], wanted[name]) for name in wanted)


def test_layers_with_the_same_obstacle_share_a_line(capsys: pytest.CaptureFixture[str]) -> None:
    torch.manual_seed(0)
    parts = [nn.Conv2d(8, 8, 1), nn.GroupNorm(2, 8), nn.ReLU()]
    model = nn.Sequential(*parts, nn.Conv2d(8, 8, 1), nn.GroupNorm(2, 8), nn.Conv2d(8, 2, 1))
    for name in ("0", "3"):
        zero_channels(model, name, slice(0, 3))
    shrink(model, torch.randn(2, 8, 5, 5))
    lines = capsys.readouterr().err.strip().splitlines()
    assert len(lines) == 1
    assert "0, 3: dead channels stay: they pass through GroupNorm; keep the zeros" in (
        lines[0].replace("3, 0:", "0, 3:")
    )


def test_frozen_weights_stay_frozen_and_a_network_that_does_not_run_is_refused() -> None:
    model = net(nn.ReLU())
    model[0].weight.requires_grad_(False)
    shrunk = shrink(model, images())
    flags = {name: p.requires_grad for name, p in shrunk.model.named_parameters()}
    assert flags == {"0.weight": False, "0.bias": True, "2.weight": True, "2.bias": True}
    with pytest.raises(UserError, match=r"shrink: Sequential does not run on the example"):
        shrink(model, images()[:, :2])


def test_crop_takes_the_groups_that_it_can(capsys: pytest.CaptureFixture[str]) -> None:
    model, example = NETS["MLP that counts its neurons"]()
    for block in (0, 1):
        zero_channels(model, f"blocks.{block}.fc2", slice(0, 5), columns=True)
    cropped = crop(model, example)
    assert cropped.removed == 5
    assert cropped.model.blocks[0].fc1.weight.shape[0] == 16
    assert cropped.model.blocks[1].fc1.weight.shape[0] == 11
    assert "blocks.0: the network gives different outputs" in capsys.readouterr().err
    torch.testing.assert_close(
        cropped.model.eval()(example), model.eval()(example), rtol=1e-5, atol=1e-5
    )


def test_crop_leaves_modes_and_inputs_as_they_were() -> None:
    model, example = NETS["MLP with dict outputs and in-place inputs"]()
    model.train()
    model.blocks[0].eval()
    before, given = [module.training for module in model.modules()], example.clone()
    zero_channels(model, "blocks.1.fc2", slice(0, 3), columns=True)
    assert crop(model.bfloat16(), example.bfloat16()).removed == 3
    assert [module.training for module in model.modules()] == before
    assert torch.equal(example, given)


@pytest.mark.parametrize(
    ("name", "line"),
    [
        ("a scripted layer", r"2 \(RecursiveScriptModule\) is scripted or traced"),
        ("quantised layers", r"is quantised; export the float network"),
        ("bfloat16", r"no kernels for weights of bfloat16; give model\.float"),
        ("complex weights", r"no kernels for weights of complex64"),
    ],
)
def test_what_onnx_cannot_take_is_refused_before_the_export(
    name: str, line: str, tmp_path: Any
) -> None:
    pytest.importorskip("onnxscript")
    model, example = NETS[name]()
    with pytest.raises(UserError, match=line):
        export_onnx(model, example, tmp_path / "m.onnx")
    assert list(tmp_path.iterdir()) == []


def test_interpolation_by_hand_keeps_constants_too() -> None:
    class Resized(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a, self.b = nn.Conv2d(3, 12, 3), nn.Conv2d(12, 2, 1)

        def forward(self, x: Tensor) -> Tensor:
            x = functional.interpolate(self.a(x).relu(), size=(7, 9), mode="bilinear")
            out: Tensor = self.b(x)
            return out

    torch.manual_seed(0)
    model = with_random_norms(Resized().double())
    zero_channels(model, "a", slice(0, 4))
    shrunk = shrink(model, images())
    assert shrunk.model.a.weight.shape[0] == 8
    assert_same(model, shrunk.model, images(12))


@pytest.mark.skipif(not usable_isas(), reason="no generated kernels here")
def test_lazy_layers_are_compiled(monkeypatch: pytest.MonkeyPatch) -> None:
    let_sparse_win(monkeypatch)
    torch.manual_seed(0)
    model, x = nn.Sequential(nn.LazyLinear(32), nn.ReLU(), nn.Linear(32, 4)), torch.randn(20, 16)
    compiled = compile_sparse(model, x)
    model(x)
    model.load_state_dict(compiled.state_dict())
    assert near(compiled(x), model(x))
