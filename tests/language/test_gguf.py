"""GGUF files: a Llama that was written in their order of rows comes back as it was."""

from __future__ import annotations

from pathlib import Path

import gguf
import numpy as np
import torch

from ws_learner.language.resource import read_gguf

HEADS, GROUPS, WIDTH, INNER = 4, 2, 32, 64


def test_weights_come_back_under_transformers_names(tmp_path: Path) -> None:
    draw = np.random.default_rng(0)
    size = WIDTH // HEADS

    def matrix(rows: int, columns: int) -> np.ndarray[tuple[int, ...], np.dtype[np.float32]]:
        return draw.normal(size=(rows, columns)).astype(np.float32)

    query, key, down = matrix(WIDTH, WIDTH), matrix(GROUPS * size, WIDTH), matrix(WIDTH, INNER)
    path = tmp_path / "x.gguf"
    writer = gguf.GGUFWriter(path, "llama")
    writer.add_head_count(HEADS)
    writer.add_head_count_kv(GROUPS)
    for name, value, heads in (("attn_q", query, HEADS), ("attn_k", key, GROUPS)):
        # Pairs of rows that are rotated together are neighbours there, half a head apart here.
        rows = [head * size + half * (size // 2) + place for head in range(heads)
                for place in range(size // 2) for half in range(2)]  # fmt: skip
        writer.add_tensor(f"blk.0.{name}.weight", value[rows])
    kind = gguf.GGMLQuantizationType.Q4_1
    writer.add_tensor("blk.0.ffn_down.weight", gguf.quants.quantize(down, kind), raw_dtype=kind)
    writer.add_tensor("output_norm.weight", np.ones(WIDTH, np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    _, state = read_gguf(path)
    names = ("self_attn.q_proj", "self_attn.k_proj", "mlp.down_proj")
    first, second, third = (state[f"model.layers.0.{name}.weight"] for name in names)
    assert torch.equal(first, torch.from_numpy(query))
    assert torch.equal(second, torch.from_numpy(key))
    assert torch.equal(state["model.norm.weight"], torch.ones(WIDTH))
    groups = torch.from_numpy(down).reshape(WIDTH, -1, 32)
    step = (groups.amax(-1) - groups.amin(-1)) / 15  # 16 levels for 32 weights
    error = (third.reshape_as(groups) - groups).abs().amax(-1)
    assert (error <= step / 2 * 1.05).all()
