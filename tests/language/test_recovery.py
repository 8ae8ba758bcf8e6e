"""Recovery: zeros stay, resuming changes nothing, and it does what it is for."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from safetensors.torch import load_file
from torch import Tensor, nn

from experiments.run import main
from tests.support.tiny_language import make_folder, make_text
from ws_learner.core import UserError
from ws_learner.language import LanguageSettings, recovery_steps
from ws_learner.language.blocks import BlockNetwork
from ws_learner.language.layer_rows import block_layers
from ws_learner.language.recovery import Recovery, recover
from ws_learner.language.trained_weights import TrainedWeights
from ws_learner.language.walk import PrunedBlocks, WalkPlan, prune_blocks
from ws_learner.language.whole import whole_network
from ws_learner.pruning import parse_pattern

WINDOWS = torch.randint(0, 300, (6, 16), generator=torch.Generator().manual_seed(1))


def ticking(step: float) -> Callable[[], float]:
    """A clock that goes on by `step` seconds at each look."""
    now = [0.0]

    def clock() -> float:
        now[0] += step
        return now[0]

    return clock


def prepared(folder: Path, kind: str = "llama") -> tuple[BlockNetwork, PrunedBlocks]:
    network = BlockNetwork(make_folder(folder / "net", kind))
    layers = block_layers(network)
    zeros = [layer.row.weights // 2 for layer in layers]
    pattern = parse_pattern("2:4")
    plan = WalkPlan(layers=layers, zeros=zeros, pattern=pattern, solver="wanda")
    return network, prune_blocks(network, WINDOWS, plan, folder=folder / "blocks")


def plan_for(network: BlockNetwork, folder: Path, **changes: Any) -> Recovery:
    watch = changes.pop("watch", lambda seconds: None)
    clock = changes.pop("clock", ticking(2.0))
    options: dict[str, Any] = {"recover_minutes": 0.5, "recover_rate": 0.01}
    return Recovery(
        network=network,
        layers=block_layers(network),
        windows=WINDOWS,
        settings=LanguageSettings(**(options | changes)),
        folder=folder,
        clock=clock,
        watch=watch,
    )


def tensors_of(network: BlockNetwork, blocks: PrunedBlocks) -> dict[str, Tensor]:
    return {key: one for n in range(len(network)) for key, one in blocks.read(n).items()}


def divergence(network: BlockNetwork, blocks: PrunedBlocks) -> float:
    """Mean KL divergence from the dense network, from whole forward passes."""
    with whole_network(network, blocks) as model, torch.no_grad():
        found = torch.log_softmax(model(WINDOWS).logits, -1)
    dense: Any = transformers.AutoModelForCausalLM.from_pretrained(network.folder)
    dense.eval()
    with torch.no_grad():
        wanted = torch.log_softmax(dense(WINDOWS).logits, -1)
    return float((wanted.exp() * (wanted - found)).sum(-1).mean())


@pytest.mark.parametrize("rank", [0, 4])
@pytest.mark.parametrize("kind", ["llama", "gpt2"])
def test_distillation_nears_the_dense_network_and_zeros_stay(
    kind: str, rank: int, tmp_path: Path
) -> None:
    network, pruned = prepared(tmp_path, kind)
    found = recover(plan_for(network, tmp_path / "on", recover_rank=rank), pruned)
    before, after = tensors_of(network, pruned), tensors_of(network, found)
    assert before.keys() == after.keys()
    for key, weight in before.items():
        assert torch.equal(after[key] == 0, weight == 0)
        assert not torch.equal(after[key], weight)
    assert divergence(network, found) < 0.9 * divergence(network, pruned)
    assert all(one.device.type == "meta" for one in network.model.parameters())


def test_the_dense_network_is_fine_tuned_on_the_tokens(tmp_path: Path) -> None:
    network, _ = prepared(tmp_path)
    plan = plan_for(network, tmp_path / "on", recover_by="fine-tune", recover_rate=0.003)
    found = recover(plan, None)
    losses = []
    for blocks in (None, found):
        with whole_network(network, blocks) as model, torch.no_grad():
            losses.append(float(model(WINDOWS, labels=WINDOWS).loss))
    assert losses[1] < losses[0]


class KilledError(BaseException):
    """Stands for a signal that cannot be caught."""


@pytest.mark.parametrize("rank", [0, 4])
def test_training_that_was_killed_goes_on_to_the_same_weights(
    rank: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A step takes 4 s by the clock of the test: saved after 64 s, killed at 100, called again."""
    now, loss_of = [0.0], recovery_steps._loss

    def loss_in_time(*given: Any) -> Tensor:
        now[0] += 4
        return loss_of(*given)

    monkeypatch.setattr(recovery_steps, "_loss", loss_in_time)
    network, pruned = prepared(tmp_path)
    common: dict[str, Any] = {"recover_minutes": 2.5, "recover_rank": rank, "clock": lambda: now[0]}
    whole = recover(plan_for(network, tmp_path / "whole", **common), pruned)

    def killed(seconds: float) -> None:
        if seconds >= 100:
            raise KilledError

    with pytest.raises(KilledError):
        recover(plan_for(network, tmp_path / "on", **common, watch=killed), pruned)
    again: list[float] = []
    plan = plan_for(network, tmp_path / "on", **common, watch=again.append)
    parts = recover(plan, pruned)
    assert again[0] == 68  # what was spent counts
    assert not (tmp_path / "on" / "training.pt").exists()
    wanted, found = tensors_of(network, whole), tensors_of(network, parts)
    assert all(torch.equal(found[key], weight) for key, weight in wanted.items())


def test_a_product_is_added_under_the_mask(tmp_path: Path) -> None:
    """Merged LoRA against the formula of the paper with a mask."""
    layer = nn.Linear(6, 4)
    with torch.no_grad():
        layer.weight[:, ::2] = 0
    before = layer.weight.detach().clone()
    weights = TrainedWeights({"layer": layer}, rank=2, seed=0)
    assert torch.equal(layer.weight, before)  # the product starts at zero
    with torch.no_grad():
        weights.parameters["layer.up"].normal_()
    up, down = (weights.parameters[f"layer.{name}"].detach() for name in ("up", "down"))
    merged = weights.merge()["layer"]
    assert torch.allclose(merged, before + 2 * (before != 0) * (up @ down))
    assert isinstance(layer.weight, nn.Parameter)


def test_a_rate_that_is_too_high_is_a_line(tmp_path: Path) -> None:
    network, pruned = prepared(tmp_path)
    with pytest.raises(UserError, match="give a lower `recover_rate`"):
        recover(plan_for(network, tmp_path / "on", recover_rate=1e30), pruned)


def test_a_run_recovers_and_says_what_it_was_before(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    make_folder(tmp_path / "net")
    make_text(tmp_path / "text.txt")
    words = ["lm_at_text", "--model", f"hf:{tmp_path / 'net'}", "--text", str(tmp_path / "*.txt")]
    words += ["--window", "24", "--calibration_windows", "4", "--test_windows", "4"]
    run = tmp_path / "run"
    words += ["--pattern", "2:4", "--run_dir", str(run)]
    assert main([*words, "--recover_rank", "4"]) == 2
    assert "--recover_rank 4: needs `recover_minutes`" in capsys.readouterr().err
    assert main([*words, "--recover_minutes", "0.02", "--recover_rate", "0.01"]) == 0
    summary = json.loads((run / "summary.json").read_text())
    assert float(summary["more_results"]["one-shot perplexity, before recovery"]) > 0
    assert summary["achieved_prune_ratio"] == pytest.approx(0.5)
    state = load_file(run / "model.safetensors")
    for name, weight in state.items():
        if "proj" in name:
            assert int((weight == 0).reshape(-1, 4).sum(1).min()) == 2
    assert main(["--exec_mode", "eval", "--run_dir", str(run)]) == 0
