"""Attention heads from end to end: pruned whole in q, k, v and o, then shrunk away."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from experiments.run import main
from tests.support.attention_experiment import RowReader
from tests.support.fused_attention import HEADS, WIDTH, FusedAttentionNet
from tests.support.small_bert import SmallBert
from ws_learner import Pruning, UserError
from ws_learner.compat.lpot.epoch_plan import EpochPlan
from ws_learner.compat.lpot.epoch_pruner import EpochPruner
from ws_learner.compat.lpot.reader import parse_lpot
from ws_learner.deploy.shrinking.shrink import shrink
from ws_learner.deploy.shrinking.split_attention import split_attention
from ws_learner.pruning.methods.gradient_sensitivity import GradientSensitivityConfig
from ws_learner.pruning.methods.gradual import GradualConfig
from ws_learner.pruning.patterns.pattern import parse_pattern
from ws_learner.pruning.sparsifier import Sparsifier

ROOT = Path(__file__).parents[2]
ROWS = str(ROOT / "tests" / "support" / "attention_experiment.py")

CONF = """pruning:
  approach:
    weight_compression:
      end_epoch: 1
      pruners:
        - !Pruner
            prune_type: {kind}
            pattern: mha
            target_sparsity: 0.5
"""


def hugging_face(kind: str) -> nn.Module:
    from transformers import (
        BertConfig,
        BertForSequenceClassification,
        ViTConfig,
        ViTForImageClassification,
    )

    sizes: dict[str, Any] = {
        "hidden_size": WIDTH,
        "num_hidden_layers": 2,
        "num_attention_heads": HEADS,
        "intermediate_size": 40,
        "num_labels": 3,
    }
    if kind == "bert":
        return BertForSequenceClassification(
            BertConfig(vocab_size=50, max_position_embeddings=16, **sizes)
        )
    return ViTForImageClassification(ViTConfig(image_size=16, patch_size=4, **sizes))


def encoder() -> nn.Module:
    layer = nn.TransformerEncoderLayer(WIDTH, HEADS, 40, batch_first=True)
    model = nn.TransformerEncoder(layer, 2, enable_nested_tensor=False)
    split_attention(model)
    return model


def tokens() -> Tensor:
    return torch.randint(50, (6, 7))


NETS: dict[str, tuple[Callable[[], nn.Module], Callable[[], Tensor], int]] = {
    "bert": (lambda: hugging_face("bert"), tokens, 2),
    "vit": (lambda: hugging_face("vit"), lambda: torch.randn(6, 3, 16, 16), 2),
    "own": (SmallBert, tokens, 2),
    "fused": (FusedAttentionNet, lambda: torch.randn(6, 5, WIDTH), 1),
    "split": (encoder, lambda: torch.randn(6, 5, WIDTH), 2),
}
QUERIES = ("query", "q_proj", "key", "k_proj", "value", "v_proj")
OUTPUTS = ("attention.output.dense", "attention.output", "o_proj", "out_proj", "attn.proj")


def logits_of(model: nn.Module, inputs: Tensor) -> Tensor:
    outputs = model(inputs)
    logits: Tensor = getattr(outputs, "logits", outputs)
    return logits


def dead_heads(model: nn.Module) -> list[set[int]]:
    """Heads that are zero, one set per projection; the layout is checked without the library."""
    sets = []
    for name, module in model.named_modules():
        if not isinstance(module, nn.Linear):
            continue
        zero, dead = module.weight.detach() == 0, None
        if name.endswith("qkv"):
            dead = zero.reshape(3, HEADS, -1).transpose(0, 1).reshape(HEADS, -1)
        elif name.endswith(QUERIES):
            dead = zero.reshape(HEADS, -1)
        elif name.endswith(OUTPUTS):
            dead = zero.T.reshape(HEADS, -1)
        if dead is None:
            assert not zero.any(), name
            continue
        assert torch.equal(dead.any(1), dead.all(1)), name  # whole heads only
        sets.append(set(torch.nonzero(dead.all(1)).flatten().tolist()))
    return sets


def check_shrunk(model: nn.Module, inputs: Tensor, *, attentions: int) -> None:
    """Half of the heads are gone, the same in all projections; so they are after the shrink."""
    sets = dead_heads(model)
    per = len(sets) // attentions
    assert per in (2, 4)
    for start in range(0, len(sets), per):
        assert len(sets[start]) == HEADS // 2
        assert all(dead == sets[start] for dead in sets[start : start + per])
    model.eval()
    small = shrink(model, inputs).model
    for name, module in small.named_modules():
        if name.endswith((*QUERIES, "qkv")) and isinstance(module, nn.Linear):
            before = model.get_submodule(name).weight
            assert 2 * module.weight.shape[0] == before.shape[0], name
        if name.endswith(OUTPUTS) and isinstance(module, nn.Linear):
            assert module.weight.shape[1] == WIDTH // 2, name
    with torch.no_grad():
        torch.testing.assert_close(
            logits_of(small, inputs), logits_of(model, inputs), rtol=1e-5, atol=1e-5
        )


def projections(model: nn.Module) -> list[str]:
    found = [n for n, m in model.named_modules() if isinstance(m, nn.Linear)]
    return [f"{n}.weight" for n in found if n.endswith((*QUERIES, *OUTPUTS, "qkv"))]


@pytest.mark.long
@pytest.mark.parametrize("kind", ["magnitude", "gradient_sensitivity"])
@pytest.mark.parametrize("name", NETS)
def test_heads_by_a_sparsifier(name: str, kind: str) -> None:
    torch.manual_seed(0)
    build, make_inputs, attentions = NETS[name]
    model = build()
    config = GradualConfig if kind == "magnitude" else GradientSensitivityConfig
    settings = config(pattern=parse_pattern("mha"), mask_update_step=1)
    ratios = dict.fromkeys(projections(model), 0.5)
    sparsifier = Sparsifier(model, settings, ratios=ratios, total_steps=8)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3, weight_decay=0.1)
    sparsifier.attach(optimizer)
    for _ in range(8):
        optimizer.zero_grad()
        logits_of(model, make_inputs()).square().mean().backward()
        optimizer.step()
    sparsifier.finalize()
    check_shrunk(model, make_inputs(), attentions=attentions)


@pytest.mark.parametrize("kind", ["basic_magnitude", "gradient_sensitivity", "group_lasso"])
@pytest.mark.parametrize("name", ["bert", "own", "fused"])
def test_heads_by_lpots_file(name: str, kind: str) -> None:
    torch.manual_seed(0)
    build, make_inputs, attentions = NETS[name]
    text = CONF.format(kind=kind)
    if kind == "group_lasso":
        text += "            parameters: {alpha: 0.001}\n"
    prune = Pruning(parse_lpot(text))
    prune.model = build()

    def train(model: nn.Module) -> None:
        optimizer = torch.optim.SGD(model.parameters(), lr=0.01, momentum=0.9)
        for epoch in range(2):
            prune.on_epoch_begin(epoch)
            for step in range(3):
                prune.on_batch_begin(step)
                optimizer.zero_grad()
                logits_of(model, make_inputs()).square().mean().backward()
                optimizer.step()
                prune.on_batch_end()

    prune.pruning_func = train
    check_shrunk(prune().model, make_inputs(), attentions=attentions)


def test_the_heads_the_loss_feels_least_go() -> None:
    """|sum of w g| over a head's columns of o is |dL / d(factor on the head)| (Michel 2019)."""
    torch.manual_seed(0)
    model, x = FusedAttentionNet().double(), torch.randn(6, 5, WIDTH, dtype=torch.float64)
    factors = torch.ones(HEADS, dtype=torch.float64, requires_grad=True)

    def scale(_: nn.Module, args: tuple[Tensor, ...]) -> tuple[Tensor]:
        return (args[0] * factors.repeat_interleave(WIDTH // HEADS),)

    handle = model.attn.proj.register_forward_pre_hook(scale)
    model(x).square().mean().backward()
    handle.remove()
    assert factors.grad is not None
    wanted = torch.argsort(factors.grad.abs())[: HEADS // 2]
    name = "attn.proj.weight"
    plan = EpochPlan(
        names=(name,),
        kind="sensitivity",
        pattern=parse_pattern("mha"),
        start_epoch=1,
        end_epoch=1,
        target=0.5,
    )
    pruner = EpochPruner(model, [plan])
    pruner.epoch_begin(0)
    pruner.before_step()
    pruner.after_step()
    pruner.epoch_begin(1)
    dead = (model.get_parameter(name).detach() == 0).T.reshape(HEADS, -1)
    assert torch.equal(torch.nonzero(dead.all(1)).flatten(), wanted.sort().values)
    assert int(dead.sum()) == WIDTH * WIDTH // 2


def test_mha_without_heads_says_so() -> None:
    prune = Pruning(parse_lpot(CONF.format(kind="magnitude")))
    prune.model = nn.Linear(4, 4)
    prune.pruning_func = lambda model: None
    with pytest.raises(UserError, match=r"mha \(line 6\).*an attention; 0 attentions"):
        prune()


@pytest.mark.long
@pytest.mark.parametrize("method", ["gradual", "gradient_sensitivity"])
def test_heads_from_the_command_line(
    method: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WS_DATA_DIR", str(tmp_path / "cache"))
    dense, run = tmp_path / "dense", tmp_path / "run"
    words = [ROWS, "--nb_epochs", "0.2", "--precision", "fp32"]
    assert main([*words, "--learner", "full-prec", "--run_dir", str(dense)]) == 0
    words += ["--dense_checkpoint", str(dense / "model.safetensors"), "--run_dir", str(run)]
    words += ["--ws_pattern", "mha", "--ws_method", method, "--ws_mask_update_step", "1"]
    # Attention holds 4,608 of the 8,880 weights: half of it is 0.2595 of all.
    words += ["--ws_prune_ratio", "0.26", "--ws_prune_ratio_prtl", "uniform", "--workers", "0"]
    assert main(words) == 0
    model = RowReader(HEADS)
    model.load_state_dict(load_file(run / "model.safetensors"))
    check_shrunk(model, torch.randn(6, 1, 8, 8), attentions=2)
    summary = json.loads((run / "summary.json").read_text())
    assert (summary["pattern"], summary["method"]) == ("mha", method)
