"""Whole blocks and neurons that are cut out, against networks cut in memory with plain code."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from torch import nn

from experiments import export
from experiments.run import main
from tests.support.tiny_language import KINDS, make_folder, make_text
from ws_learner.core import UserError
from ws_learner.language.blocks import BlockNetwork
from ws_learner.language.removed_blocks import choose_blocks
from ws_learner.language.smaller import check_smaller, narrower, without_blocks
from ws_learner.language.windows import Windows

TOKENS = torch.randint(0, 300, (6, 24), generator=torch.Generator().manual_seed(1))
WINDOWS = Windows(calibration=TOKENS, search=TOKENS[:2], test=TOKENS[2:])


def opened(folder: Path) -> Any:
    model: Any = transformers.AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    return model.eval()


def blocks_of(model: Any) -> nn.ModuleList:
    return max((m for m in model.modules() if isinstance(m, nn.ModuleList)), key=len)


@pytest.mark.parametrize("kind", KINDS)
def test_stock_transformers_load_a_network_with_a_block_less(kind: str, tmp_path: Path) -> None:
    folder = make_folder(tmp_path / "net", kind)
    smaller, removed = without_blocks(BlockNetwork(folder), WINDOWS, 1, state=tmp_path)
    assert len(smaller) == 1
    wanted = opened(folder)
    del blocks_of(wanted)[removed[0]]
    with torch.no_grad():
        ids = TOKENS[:1]
        found = opened(smaller.folder)(ids, use_cache=False).logits
        assert torch.equal(found, wanted(ids, use_cache=False).logits)


@pytest.mark.parametrize("kind", KINDS)
def test_a_narrower_network_computes_what_zeros_in_place_would(kind: str, tmp_path: Path) -> None:
    """Wanda changes no weight, so that the reference is the network with its neurons silenced."""
    folder = make_folder(tmp_path / "net", kind)
    smaller, size = narrower(BlockNetwork(folder), WINDOWS, 0.25, solver="wanda", state=tmp_path)
    model, wanted = opened(smaller.folder), opened(folder)
    assert size == round(_inner(wanted) * 0.75) == _inner(model)
    for cut, whole in zip(blocks_of(model), blocks_of(wanted), strict=True):
        read, name = _consumer(cut, size)
        weight: Any = whole.get_submodule(name).weight
        columns = weight if isinstance(read, nn.Linear) else weight.T
        kept = read.weight if isinstance(read, nn.Linear) else read.weight.T
        stays = (columns.T[:, None] == kept.T[None]).all(-1).any(1)
        assert int(stays.sum()) == size
        with torch.no_grad():
            columns[:, ~stays] = 0
    with torch.no_grad():
        found, reference = model(TOKENS).logits, wanted(TOKENS).logits
    assert torch.allclose(found, reference, atol=1e-4 * float(reference.abs().max()))


def _inner(model: Any) -> int:
    config = model.config
    names = ("intermediate_size", "ffn_dim", "n_inner")
    found: list[int] = [v for n in names if (v := getattr(config, n, None))]
    return found[0] if found else 4 * int(config.hidden_size)


def _consumer(block: Any, size: int) -> tuple[Any, str]:
    found = [
        (module, name)
        for name, module in block.named_modules()
        if (isinstance(module, nn.Linear) and module.in_features == size)
        or (type(module).__name__ == "Conv1D" and module.weight.shape[0] == size)
    ]
    assert len(found) == 1
    return found[0]


def test_the_block_that_does_nothing_goes_first(tmp_path: Path) -> None:
    """A block whose outputs are zero adds nothing to the hidden states."""
    folder = make_folder(tmp_path / "net")
    model = opened(folder)
    with torch.no_grad():
        for name in ("self_attn.o_proj", "mlp.down_proj"):
            model.model.layers[1].get_submodule(name).weight.zero_()
    model.save_pretrained(folder)
    network = BlockNetwork(folder)
    kept = tmp_path / "removed.pt"
    assert choose_blocks(network, TOKENS, 1, kept=kept) == [1]
    assert choose_blocks(network, TOKENS[:0], 1, kept=kept) == [1]  # read, not measured again


def test_what_a_network_cannot_lose_is_refused(tmp_path: Path) -> None:
    network = BlockNetwork(make_folder(tmp_path / "net"))
    with pytest.raises(UserError, match="keep at least 1"):
        check_smaller(network, blocks=2, neurons=0.0)
    with pytest.raises(UserError, match="must leave some neurons"):
        check_smaller(network, blocks=0, neurons=0.001)


def test_a_run_with_fewer_blocks_narrower_mlps_and_zeros_is_exported(tmp_path: Path) -> None:
    make_folder(tmp_path / "net")
    make_text(tmp_path / "text.txt")
    words = ["lm_at_text", "--model", f"hf:{tmp_path / 'net'}", "--text", str(tmp_path / "*.txt")]
    words += ["--window", "24", "--calibration_windows", "4", "--test_windows", "4"]
    words += ["--drop_blocks", "1", "--drop_neurons", "0.5", "--prune_ratio", "0.25"]
    run = tmp_path / "run"
    assert main([*words, "--run_dir", str(run)]) == 0
    assert main(["--exec_mode", "eval", "--run_dir", str(run)]) == 0
    summary = json.loads((run / "summary.json").read_text())
    assert summary["more_results"]["neurons of every block"] == "12 of 24"
    assert export.main([str(run), "--to", "hf", "--out", str(tmp_path / "hf")]) == 0
    model = opened(tmp_path / "hf")
    assert (model.config.num_hidden_layers, model.config.intermediate_size) == (1, 12)
    layers = [m.weight for m in model.model.modules() if isinstance(m, nn.Linear)]
    zeros = sum(int((weight == 0).sum()) for weight in layers)
    assert zeros == round(0.25 * sum(weight.numel() for weight in layers))


@pytest.mark.parametrize(
    ("more", "share"),
    [
        ([], 0.5),
        (["--drop_blocks", "1"], 0.0),
        (["--drop_neurons", "0.5"], 0.0),
        (["--drop_blocks", "1", "--pattern", "2:4"], 0.5),
        (["--pattern", "1:4"], 0.75),
    ],
)
def test_the_default_ratio_is_what_the_help_page_says(
    more: list[str], share: float, tmp_path: Path
) -> None:
    make_folder(tmp_path / "net")
    make_text(tmp_path / "text.txt")
    words = ["lm_at_text", "--model", f"hf:{tmp_path / 'net'}", "--text", str(tmp_path / "*.txt")]
    words += ["--window", "24", "--calibration_windows", "4", "--test_windows", "4"]
    run = tmp_path / "run"
    assert main([*words, "--solver", "magnitude", *more, "--run_dir", str(run)]) == 0
    summary = json.loads((run / "summary.json").read_text())
    assert summary["target_prune_ratio"] == share
    assert summary["achieved_prune_ratio"] == pytest.approx(share, abs=1e-3)
