"""The networks have the published sizes, costs and parameter names."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from experiments.models.mobilenet_v1 import mobilenet_v1
from experiments.models.mobilenet_v2 import mobilenet_v2
from experiments.models.resnet import resnet
from experiments.models.resnet_cifar import resnet_cifar
from ws_learner.core.errors import UserError
from ws_learner.pruning.layers.table import layer_table

NORM = ("weight", "bias", "running_mean", "running_var", "num_batches_tracked")


def count(model: nn.Module) -> int:
    return sum(parameter.numel() for parameter in model.parameters())


def macs(model: nn.Module, size: int) -> int:
    """Cost of one image; on the meta device shapes flow and nothing is computed."""
    images = torch.empty(1, 3, size, size, device="meta")
    return sum(row.macs for row in layer_table(model.to("meta"), images))


def norm(name: str) -> list[str]:
    return [f"{name}.{part}" for part in NORM]


# ---- sizes and costs against the papers and torchvision's published counts


@pytest.mark.parametrize("depth", [8, 20, 32, 44, 56])
def test_resnet_cifar_has_the_parameters_and_the_cost_of_its_formula(depth: int) -> None:
    n = (depth - 2) // 6
    params = 3 * 16 * 9 + 2 * 16 + 64 * 10 + 10
    cost = 3 * 16 * 9 * 32**2 + 64 * 10
    for inputs, width, side in ((16, 16, 32), (16, 32, 16), (32, 64, 8)):
        weights = inputs * width * 9 + (2 * n - 1) * width * width * 9
        projection = inputs * width if inputs != width else 0
        params += weights + 2 * n * 2 * width + projection + (2 * width if projection else 0)
        cost += (weights + projection) * side**2
    model = resnet_cifar(depth)
    assert count(model) == params
    assert macs(model, 32) == cost


@pytest.mark.parametrize(
    ("depth", "millions"),
    [(20, 0.27), (32, 0.46), (44, 0.66), (56, 0.85)],
)
def test_resnet_cifar_is_as_large_as_in_table_6_of_the_paper(depth: int, millions: float) -> None:
    # The paper's shortcuts have no parameters; the 1x1 projections have 16*32 + 32*64 weights and
    # 2 * (32 + 64) of batch norm.
    without_projections = count(resnet_cifar(depth)) - (16 * 32 + 32 * 64 + 2 * (32 + 64))
    assert without_projections / 1e6 == pytest.approx(millions, abs=0.006)


def test_resnet_20_has_the_reference_count() -> None:
    assert count(resnet_cifar(20)) == 272_474


@pytest.mark.parametrize(
    ("build", "parameters", "billions"),
    [
        (lambda: resnet(18), 11_689_512, 1.814),
        (lambda: resnet(34), 21_797_672, 3.66),
        (lambda: resnet(50), 25_557_032, 4.09),
        (lambda: mobilenet_v1(), 4_231_976, 0.569),
        (lambda: mobilenet_v2(), 3_504_872, 0.300),
        (lambda: mobilenet_v1(width=0.5), 1_331_592, 0.149),
        (lambda: mobilenet_v2(width=1.4), 6_108_776, 0.582),
    ],
    ids=["18", "34", "50", "v1", "v2", "v1-0.5", "v2-1.4"],
)
def test_imagenet_networks_have_the_published_size_and_cost(
    build: Callable[[], nn.Module], parameters: int, billions: float
) -> None:
    with torch.device("meta"):
        model = build()
    assert count(model) == parameters
    assert macs(model, 224) / 1e9 == pytest.approx(billions, rel=0.01)


# ---- names


def residual_keys(blocks: tuple[int, ...], convolutions: int, *, project_first: bool) -> list[str]:
    keys = ["conv1.weight", *norm("bn1")]
    for stage, number in enumerate(blocks, start=1):
        for block in range(number):
            prefix = f"layer{stage}.{block}"
            for index in range(1, convolutions + 1):
                keys += [f"{prefix}.conv{index}.weight", *norm(f"{prefix}.bn{index}")]
            if block == 0 and (stage > 1 or project_first):
                keys += [f"{prefix}.downsample.0.weight", *norm(f"{prefix}.downsample.1")]
    return [*keys, "fc.weight", "fc.bias"]


@pytest.mark.parametrize(
    ("model", "expected"),
    [
        (lambda: resnet_cifar(20), residual_keys((3, 3, 3), 2, project_first=False)),
        (lambda: resnet(18), residual_keys((2, 2, 2, 2), 2, project_first=False)),
        (lambda: resnet(34), residual_keys((3, 4, 6, 3), 2, project_first=False)),
        (lambda: resnet(50), residual_keys((3, 4, 6, 3), 3, project_first=True)),
    ],
    ids=["cifar-20", "18", "34", "50"],
)
def test_residual_networks_use_torchvision_names(
    model: Callable[[], nn.Module], expected: list[str]
) -> None:
    with torch.device("meta"):
        assert list(model().state_dict()) == expected


def test_resnet_50_strides_on_the_3x3_convolutions() -> None:
    with torch.device("meta"):
        model = resnet(50)
    strided = [
        name
        for name, module in model.named_modules()
        if isinstance(module, nn.Conv2d) and module.stride == (2, 2) and "layer" in name
    ]
    expected = [f"layer{k}.0.{name}" for k in (2, 3, 4) for name in ("conv2", "downsample.0")]
    assert strided == expected


def test_mobilenet_v2_uses_torchvision_names() -> None:
    keys = ["features.0.0.weight", *norm("features.0.1")]
    for block in range(1, 18):
        # The first block does not widen, so it has one convolution less.
        last = 1 if block == 1 else 2
        for index in range(last):
            prefix = f"features.{block}.conv.{index}"
            keys += [f"{prefix}.0.weight", *norm(f"{prefix}.1")]
        keys += [f"features.{block}.conv.{last}.weight", *norm(f"features.{block}.conv.{last + 1}")]
    keys += ["features.18.0.weight", *norm("features.18.1"), "classifier.1.weight"]
    with torch.device("meta"):
        assert list(mobilenet_v2().state_dict()) == [*keys, "classifier.1.bias"]


def test_mobilenet_v1_uses_timm_names() -> None:
    keys = ["conv_stem.weight", *norm("bn1")]
    for stage, number in enumerate((1, 2, 2, 6, 2)):
        for block in range(number):
            prefix = f"blocks.{stage}.{block}"
            keys += [f"{prefix}.conv_dw.weight", *norm(f"{prefix}.bn1")]
            keys += [f"{prefix}.conv_pw.weight", *norm(f"{prefix}.bn2")]
    with torch.device("meta"):
        assert list(mobilenet_v1().state_dict()) == [*keys, "classifier.weight", "classifier.bias"]


# ---- behaviour

SMALL: dict[str, tuple[Callable[[], nn.Module], int]] = {
    "cifar": (lambda: resnet_cifar(8, num_classes=7), 32),
    "resnet18": (lambda: resnet(18, num_classes=7), 64),
    "resnet50": (lambda: resnet(50, num_classes=7), 64),
    "v1": (lambda: mobilenet_v1(num_classes=7, width=0.25), 64),
    "v2": (lambda: mobilenet_v2(num_classes=7, width=0.35), 64),
}


@pytest.mark.parametrize("name", SMALL)
def test_output_has_one_logit_a_class_and_gradients_reach_every_parameter(name: str) -> None:
    build, size = SMALL[name]
    torch.manual_seed(0)
    model = build()
    images = torch.randn(4, 3, size, size)
    logits: Tensor = model.train()(images)
    loss = nn.functional.cross_entropy(logits, torch.arange(4))
    gradients = torch.autograd.grad(loss, list(model.parameters()))
    pairs = zip(model.named_parameters(), gradients, strict=True)
    dead = [name for (name, _), gradient in pairs if not gradient.any()]
    assert dead == []
    with torch.no_grad():
        evaluated = model.eval()(images)
    assert evaluated.shape == (4, 7)
    assert evaluated.isfinite().all()


def test_resnet_cifar_computes_a_chain_of_residual_blocks() -> None:
    torch.manual_seed(0)
    model = resnet_cifar(8).double().eval()
    x = torch.randn(2, 3, 32, 32, dtype=torch.float64)
    state = model.state_dict()

    def conv_norm(x: Tensor, conv: str, bn: str, stride: int = 1) -> Tensor:
        weight = state[f"{conv}.weight"]
        x = nn.functional.conv2d(x, weight, stride=stride, padding=weight.shape[-1] // 2)
        mean, var = state[f"{bn}.running_mean"], state[f"{bn}.running_var"]
        scale: Tensor = state[f"{bn}.weight"] / (var + 1e-5).sqrt()
        shift: Tensor = state[f"{bn}.bias"] - mean * scale
        return x * scale.view(-1, 1, 1) + shift.view(-1, 1, 1)

    # Statistics that differ from batch norm's start, so that leaving one out would show.
    for name, value in state.items():
        if ("bn" in name or "downsample.1" in name) and value.is_floating_point():
            value.uniform_(0.5, 1.5)
    y = conv_norm(x, "conv1", "bn1").clamp(min=0)
    for stage, stride in ((1, 1), (2, 2), (3, 2)):
        block = f"layer{stage}.0"
        inner = conv_norm(y, f"{block}.conv1", f"{block}.bn1", stride).clamp(min=0)
        inner = conv_norm(inner, f"{block}.conv2", f"{block}.bn2")
        if stage > 1:
            y = conv_norm(y, f"{block}.downsample.0", f"{block}.downsample.1", stride)
        y = (inner + y).clamp(min=0)
    expected = y.mean((2, 3)) @ state["fc.weight"].T + state["fc.bias"]
    with torch.no_grad():
        torch.testing.assert_close(model(x), expected)


def test_convolutions_start_with_the_variance_of_kaiming_fan_out() -> None:
    torch.manual_seed(0)
    weight = resnet_cifar(20).get_parameter("layer3.1.conv1.weight")
    assert weight.std().item() == pytest.approx((2 / (64 * 9)) ** 0.5, rel=0.02)
    assert weight.mean().item() == pytest.approx(0, abs=1e-3)


@pytest.mark.parametrize("depth", [0, 2, 7, 21, -4])
def test_resnet_cifar_refuses_other_depths(depth: int) -> None:
    with pytest.raises(UserError, match=rf"depth {depth} is not 6n \+ 2.*20, 32, 44, 56"):
        resnet_cifar(depth)


def test_resnet_refuses_other_depths() -> None:
    with pytest.raises(UserError, match=r"depth 101 .*Allowed: 18, 34, 50"):
        resnet(101)


@pytest.mark.parametrize("build", [mobilenet_v1, mobilenet_v2])
@pytest.mark.parametrize("width", [0.0, -1.0, float("nan"), float("inf")])
def test_mobilenets_refuse_a_width_that_is_not_positive(
    build: Callable[..., nn.Module], width: float
) -> None:
    with pytest.raises(UserError, match="width"):
        build(width=width)
