"""Every construct that people bring: cut where it can be, else left as it is; never an error."""

from __future__ import annotations

import warnings
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from tests.support.dead_channels import with_random_dead_channels
from tests.support.nets_people_bring.nets import NETS
from ws_learner.deploy.other_inputs import longer_inputs, other_inputs
from ws_learner.deploy.runtime.output_comparison import differences
from ws_learner.deploy.shrinking.crop import crop
from ws_learner.deploy.shrinking.permute_mlp import permute_mlps
from ws_learner.deploy.shrinking.shrink import Shrunk, shrink
from ws_learner.deploy.shrinking.tracing import call_model
from ws_learner.pruning import NM

# Types that cannot be made double precision, and how near outputs have to be there.
ROUGH = {"bfloat16": 5e-2, "half precision": 1e-2, "autocast inside": 5e-2, "complex weights": 1e-5}
ROUGH |= {"quantised layers": 1e-5}
# Each costs a second or more of PyTorch's compiler, and is tried in the table of what works.
SLOW = {"torch.compile", "torch.compile of a layer", "DataParallel of torch.compile"}
SLOW |= {"a traced network"}


def built(name: str, seed: int) -> tuple[nn.Module, Any, float]:
    """The network with dead channels, its arguments, and the difference allowed."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model, example = NETS[name]()
    arguments = (example,) if isinstance(example, Tensor) else example
    if "lazy" in name:
        model(*arguments)
    if name not in ROUGH:
        model, arguments = model.double(), doubled(arguments)
    return with_random_dead_channels(model, seed=seed), arguments, ROUGH.get(name, 1e-9)


def doubled(value: Any) -> Any:
    if isinstance(value, Tensor):
        return value.double() if value.is_floating_point() else value
    if isinstance(value, dict):
        return {name: doubled(part) for name, part in value.items()}
    return tuple(doubled(part) for part in value)


def assert_same(model: nn.Module, other: nn.Module, arguments: Any, most: float) -> None:
    """The outputs agree on inputs that nothing was made from."""
    model.eval()
    other.eval()
    for words, inputs in [*other_inputs(arguments), *longer_inputs(arguments)]:
        torch.manual_seed(7)
        with torch.no_grad():
            try:
                wanted = call_model(model, inputs)
            except Exception:
                continue
            got = call_model(other, inputs)
        assert differences([(got, wanted)])["relative_error"] <= most, words


@pytest.mark.parametrize("name", sorted(NETS.keys() - SLOW))
def test_shrink_and_crop_leave_the_outputs_as_they_were(name: str) -> None:
    model, arguments, most = built(name, seed=len(name))
    before = {n: t.clone() for n, t in model.state_dict().items() if isinstance(t, Tensor)}
    modes = [module.training for module in model.modules()]
    shrunk = shrink(model, arguments)
    cropped = crop(model, arguments)
    assert [module.training for module in model.modules()] == modes
    after = model.state_dict()
    assert all(torch.equal(after[n], t) for n, t in before.items())
    assert_same(model, shrunk.model, arguments, most)
    assert_same(model, cropped.model, arguments, most)
    assert_obstacles_are_told(shrunk)


def assert_obstacles_are_told(shrunk: Shrunk) -> None:
    """Where dead channels stay, one line says why and what to do, once for each layer."""
    told = [cut.layer for cut in shrunk.cuts if cut.note.startswith("dead channels stay")]
    layers = [obstacle.layer for obstacle in shrunk.obstacles]
    assert set(told) <= set(layers)
    assert len(layers) == len(set(layers))
    for obstacle in shrunk.obstacles:
        assert obstacle.reason
        assert obstacle.remedy
        assert "\n" not in str(obstacle)


@pytest.mark.parametrize("name", sorted(name for name in NETS if "MLP" in name))
def test_permuted_mlps_give_the_outputs_that_they_gave(
    name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    model, arguments, most = built(name, seed=1)
    twin, _, _ = built(name, seed=1)
    done = permute_mlps(model, NM(2, 4), example=arguments)
    assert_same(twin, model, arguments, most)
    stays = {"depthwise", "norm", "slope", "rolled", "fixed view"}
    wanted = 0 if name in {"MLP-Mixer", "gated MLP"} else 2 - any(word in name for word in stays)
    if "fixed view" in name:  # relu of a view has no order
        wanted = 2
    assert len(done) == wanted
    said = capsys.readouterr().err
    assert said.count("stay as they are") == (2 - wanted if wanted else 0)
