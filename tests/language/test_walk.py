"""The walk over blocks against a network that is pruned whole in memory, with plain code."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from torch import Tensor, nn

from tests.support.tiny_language import KINDS, make_folder
from ws_learner.core import UserError
from ws_learner.language import grams
from ws_learner.language import walk as walk_module
from ws_learner.language.blocks import BlockNetwork, find_blocks
from ws_learner.language.calls import BlockCall, run_block
from ws_learner.language.layer_rows import block_layers
from ws_learner.language.perplexity import window_losses
from ws_learner.language.walk import PrunedBlocks, WalkPlan, prune_blocks
from ws_learner.pruning import parse_pattern

WINDOWS = torch.randint(0, 300, (5, 24), generator=torch.Generator().manual_seed(1))


def is_layer(module: nn.Module) -> bool:
    return isinstance(module, nn.Linear) or type(module).__name__ == "Conv1D"


def matrix_of(module: Any) -> Tensor:
    weight: Tensor = module.weight
    return weight if isinstance(module, nn.Linear) else weight.T


def blocks_of(model: Any) -> nn.ModuleList:
    """The blocks by name, for the kinds that are known here."""
    for path in ("model.layers", "transformer.h", "model.decoder.layers", "gpt_neox.layers"):
        try:
            found = model.get_submodule(path)
        except AttributeError:
            continue
        assert isinstance(found, nn.ModuleList)
        return found
    raise AssertionError


def prune_in_memory(folder: Path) -> dict[str, Tensor]:
    """Half of each row by |w| x norm of its input; inputs from whole forward passes."""
    model: Any = transformers.AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    model.eval()
    names = {id(module): name for name, module in model.named_modules()}
    result = {}
    for block in blocks_of(model):
        squares: dict[nn.Module, Tensor] = {}

        def add(module: nn.Module, inputs: Any, squares: dict[nn.Module, Tensor] = squares) -> None:
            tokens = inputs[0].double().flatten(0, -2)
            squares[module] = squares.get(module, 0) + (tokens**2).sum(0)

        hooks = [m.register_forward_pre_hook(add) for m in block.modules() if is_layer(m)]
        with torch.no_grad():
            model(input_ids=WINDOWS)  # all windows at once, through the whole network
        for hook in hooks:
            hook.remove()
        for module, sums in squares.items():
            matrix = matrix_of(module)
            score = matrix.detach().double().abs() * sums.sqrt()
            least = score.argsort(dim=1)[:, : matrix.shape[1] // 2]
            with torch.no_grad():
                for row, places in enumerate(least):
                    matrix[row, places] = 0
            result[f"{names[id(module)]}.weight"] = module.weight.detach().clone()
    return result


def plan_for(network: BlockNetwork, **changes: Any) -> WalkPlan:
    layers = block_layers(network)
    zeros = [layer.row.weights // 2 for layer in layers]
    settings: dict[str, Any] = {"pattern": parse_pattern("unstructured"), "solver": "wanda"}
    return WalkPlan(layers=layers, zeros=zeros, **(settings | changes))


@pytest.mark.parametrize("kind", KINDS)
def test_the_walk_gives_what_pruning_in_memory_gives(kind: str, tmp_path: Path) -> None:
    folder = make_folder(tmp_path / kind, kind)
    wanted = prune_in_memory(folder)
    network = BlockNetwork(folder)
    assert network.blocks is find_blocks(network.model, source="")[1]
    assert len(network) == 2
    pruned = prune_blocks(network, WINDOWS, plan_for(network), folder=tmp_path / "state")
    found: dict[str, Tensor] = {}
    for number in range(2):
        found |= PrunedBlocks(pruned.folder).read(number)
    assert len(found) == len(wanted)
    keys = {network.key(name): tensor for name, tensor in wanted.items()}
    for key, tensor in found.items():
        torch.testing.assert_close(tensor, keys[key], msg=key)
        assert int((tensor == 0).sum()) == tensor.numel() // 2
    assert all(parameter.is_meta for parameter in network.model.parameters())


@pytest.mark.parametrize("kind", KINDS)
def test_perplexity_is_the_networks_own_loss(kind: str, tmp_path: Path) -> None:
    folder = make_folder(tmp_path / kind, kind)
    model: Any = transformers.AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    found = window_losses(BlockNetwork(folder), WINDOWS, what="it")
    with torch.no_grad():
        wanted = [float(model(input_ids=w[None], labels=w[None]).loss) for w in WINDOWS]
    assert found.tolist() == pytest.approx(wanted, abs=1e-5)


def test_blocks_before_change_what_later_blocks_see(tmp_path: Path) -> None:
    """Pruning the first block, too, changes the second block's mask."""
    network = BlockNetwork(make_folder(tmp_path / "net"))
    layers = block_layers(network)
    whole = plan_for(network)
    second = WalkPlan(
        layers=layers,
        zeros=[zeros * layer.block for zeros, layer in zip(whole.zeros, layers, strict=True)],
        pattern=whole.pattern,
        solver=whole.solver,
    )
    found = [
        prune_blocks(network, WINDOWS, plan, folder=tmp_path / f"state{place}").read(1)
        for place, plan in enumerate((whole, second))
    ]
    assert not PrunedBlocks(tmp_path / "state1").read(0)
    assert any(not torch.equal(found[0][key] == 0, found[1][key] == 0) for key in found[0])


def test_one_block_is_in_memory_at_a_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    network = BlockNetwork(make_folder(tmp_path / "net"))
    sizes = [sum(p.numel() for p in block.parameters()) for block in network.blocks]
    seen = []

    def runs(block: nn.Module, hidden: Tensor, call: BlockCall) -> Tensor:
        there = [p for p in network.model.parameters() if not p.is_meta]
        seen.append(sum(p.numel() for p in there))
        assert {id(p) for p in there} == {id(p) for p in block.parameters()}
        return run_block(block, hidden, call)

    for module in (walk_module, grams):
        monkeypatch.setattr(module, "run_block", runs)
    prune_blocks(network, WINDOWS, plan_for(network), folder=tmp_path / "state")
    assert set(seen) == set(sizes)


def test_half_precision_and_shards_stay_as_they_were(tmp_path: Path) -> None:
    folder = make_folder(tmp_path / "net", dtype=torch.bfloat16, max_shard_size="6KB")
    assert len(list(folder.glob("*.safetensors"))) > 1
    network = BlockNetwork(folder)
    pruned = prune_blocks(
        network, WINDOWS, plan_for(network, solver="sparsegpt"), folder=tmp_path / "s"
    )
    for tensor in PrunedBlocks(pruned.folder).read(0).values():
        assert tensor.dtype == torch.bfloat16
        assert int((tensor == 0).sum()) == tensor.numel() // 2


def test_n_of_m_runs_along_the_inputs_of_every_layout(tmp_path: Path) -> None:
    network = BlockNetwork(make_folder(tmp_path / "net", "gpt2"))
    plan = plan_for(network, pattern=parse_pattern("2:4"), solver="sparsegpt")
    prune_blocks(network, WINDOWS, plan, folder=tmp_path / "s")
    for tensor in PrunedBlocks(tmp_path / "s").read(1).values():
        groups = tensor.T.reshape(tensor.shape[1], -1, 4)  # outputs x groups x 4 inputs
        assert ((groups == 0).sum(-1) == 2).all()


def test_a_network_without_blocks_is_refused() -> None:
    with pytest.raises(UserError, match="no list of blocks of one class"):
        find_blocks(nn.Sequential(nn.Linear(3, 3)), source="hf:x")
