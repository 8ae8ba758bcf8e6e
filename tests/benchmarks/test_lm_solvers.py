"""The comparison of layer solvers: its walk over a small Llama, its windows and its table."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from torch import Tensor

from benchmarks.lm_solvers import table
from benchmarks.lm_walk import block_grams, nats, prune_blocks, windows
from ws_learner.pruning import Solved, solve_layer


@pytest.fixture
def llama() -> Any:
    transformers = pytest.importorskip("transformers")
    torch.manual_seed(0)
    config = transformers.LlamaConfig(
        vocab_size=61, hidden_size=16, intermediate_size=24, num_hidden_layers=2,
        num_attention_heads=4, num_key_value_heads=2, tie_word_embeddings=True,
    )  # fmt: skip
    return transformers.LlamaForCausalLM(config).eval()


def test_inputs_of_a_block_come_from_the_pruned_blocks_before(llama: Any) -> None:
    tokens = torch.randint(0, 61, (6, 12), generator=torch.Generator().manual_seed(1))
    dense = {name: weight.detach().clone() for name, weight in llama.named_parameters()}
    grams: list[Tensor] = []

    def solve(weight: Tensor, gram: Tensor) -> Solved:
        grams.append(gram)
        return solve_layer(weight, gram, solver="wanda", pattern="unstructured", ratio=0.5)

    walk = prune_blocks(llama, tokens, solve)
    assert walk.zeros == 0.5
    layers = [n for n in dense if n.endswith("proj.weight")]
    for name, weight in llama.named_parameters():
        zeros = int((weight == 0).sum())
        assert zeros == (weight.numel() // 2 if name in layers else 0), name
    states = llama(tokens, output_hidden_states=True).hidden_states[1]  # of pruned block 0
    inputs = llama.model.layers[1].input_layernorm(states).flatten(0, 1)
    torch.testing.assert_close(grams[7], (inputs.T @ inputs).detach())  # 7 layers a block


def test_grams_of_one_block_of_the_dense_network(llama: Any) -> None:
    tokens = torch.randint(0, 61, (5, 12), generator=torch.Generator().manual_seed(3))
    states = llama(tokens, output_hidden_states=True).hidden_states[1]
    inputs = llama.model.layers[1].input_layernorm(states).flatten(0, 1)
    grams = block_grams(llama, 1, tokens)
    torch.testing.assert_close(grams["self_attn.q_proj"], (inputs.T @ inputs).detach())
    assert {name: len(gram) for name, gram in grams.items()} == {
        "self_attn.q_proj": 16, "self_attn.o_proj": 16, "mlp.gate_proj": 16, "mlp.down_proj": 24
    }  # fmt: skip


def test_nats_are_those_of_the_networks_own_loss(llama: Any) -> None:
    tokens = torch.randint(0, 61, (3, 9), generator=torch.Generator().manual_seed(2))
    expected = [float(llama(part, labels=part).loss.detach()) for part in tokens.split(1)]
    np.testing.assert_allclose(nats(llama, tokens), expected, rtol=1e-5)


def test_windows_come_from_the_years_that_are_asked_for(tmp_path: Path) -> None:
    for year in (1997, 1998, 2007):
        (tmp_path / f"{year}_somebody.txt").write_text(f"{year % 100} " * 9)

    def tokenizer(text: str) -> dict[str, list[int]]:
        return {"input_ids": [int(word) for word in text.split()]}

    found = windows(tmp_path, tokenizer, "7", length=4, count=99)
    assert sorted(found[:, 0].tolist()) == [7, 7, 97, 97]  # 9 tokens make two windows of 4
    assert found.shape == (4, 4)


def test_the_table_has_the_paired_difference_from_sparsegpt() -> None:
    rows = pd.DataFrame(
        [
            {"solver": "sparsegpt", "windows": "16", "nats": "4.0 4.2 4.4"},
            {"solver": "alternating", "windows": "16", "nats": "3.9 4.0 4.1"},
            {"solver": "sparsegpt", "windows": "32", "nats": "4.0 4.1 4.2"},
        ]
    ).assign(pattern="2:4", ratio="0.5", zeros="0.5", solver_seconds="1", walk_seconds="2")
    lines = table(rows).splitlines()[2:]
    # Differences -0.1 -0.2 -0.3: mean -0.2, standard deviation 0.1, t(0.975, 2) = 4.303.
    half = 4.303 * 0.1 / 3**0.5
    assert f"-0.200 ± {half:.3f}" in lines[0]
    assert [line.split(" | ")[2:4] for line in lines] == [
        ["alternating", "16"],
        ["sparsegpt", "32"],
        ["sparsegpt", "16"],
    ]
    assert lines[2].split(" | ")[5] == ""
