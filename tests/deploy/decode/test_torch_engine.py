"""Types without a native step: PyTorch around our layers."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

pytest.importorskip("llvmlite")
transformers = pytest.importorskip("transformers")

from tests.support.decode_llama import PROMPT, Words, gpt2, llama  # noqa: E402
from ws_learner.core import UserError  # noqa: E402
from ws_learner.deploy.decode import Sampling, compile_sparse_lm  # noqa: E402
from ws_learner.deploy.decode.decode_linear import DecodeLinear  # noqa: E402

SMALL = {"vocab_size": 250, "hidden_size": 48, "num_hidden_layers": 2, "num_attention_heads": 3}
ENDS = {"eos_token_id": None, "bos_token_id": None, "pad_token_id": None}


def opt() -> Any:
    config = transformers.OPTConfig(
        **SMALL, **ENDS, ffn_dim=96, word_embed_proj_dim=48, max_position_embeddings=128
    )
    return transformers.OPTForCausalLM(config)


def neox() -> Any:
    config = transformers.GPTNeoXConfig(
        **SMALL, **ENDS, intermediate_size=96, max_position_embeddings=128
    )
    return transformers.GPTNeoXForCausalLM(config)


def qwen() -> Any:
    config = transformers.Qwen2Config(
        **SMALL, **ENDS, intermediate_size=96, num_key_value_heads=1, max_position_embeddings=128
    )
    return transformers.Qwen2ForCausalLM(config)


def mistral() -> Any:
    config = transformers.MistralConfig(
        **SMALL, **ENDS, intermediate_size=96, num_key_value_heads=3, sliding_window=16,
        head_dim=16, max_position_embeddings=128,
    )  # fmt: skip
    return transformers.MistralForCausalLM(config)


def made(kind: Any) -> Any:
    torch.manual_seed(1)
    model = kind().eval()
    with torch.no_grad():
        for weight in model.parameters():
            if weight.dim() == 2:
                weight.normal_(std=0.15)
                if len(weight) != 250:
                    weight[torch.rand_like(weight) < 0.6] = 0
    return model


@pytest.mark.parametrize("kind", [opt, neox, qwen, mistral])
def test_other_types_run_through_pytorch(kind: Any, capsys: pytest.CaptureFixture[str]) -> None:
    model = made(kind)
    fast = compile_sparse_lm(model, Words(20), dtype="fp32")
    said = capsys.readouterr().err
    assert f"{type(model).__name__}: no native step (type {model.config.model_type})" in said
    found = fast.generate(PROMPT, max_new_tokens=24)
    with torch.no_grad():
        whole = model(torch.tensor([[*PROMPT, *found]])).logits[0].numpy()
    assert found == list(whole[len(PROMPT) - 1 : -1].argmax(-1))
    assert fast.encode("C A B") == [2, 0, 1]
    assert not any(isinstance(m, DecodeLinear) for m in model.modules())  # not changed


def test_bytes_stop_and_sampling_as_in_native_networks() -> None:
    fast = compile_sparse_lm(made(opt))
    wanted = fast.generate(PROMPT, max_new_tokens=9)
    state = fast.state()
    first = fast.generate(PROMPT, max_new_tokens=4, state=state)
    copied = state.copy()
    for own in (state, copied):
        assert first + fast.generate(first[-1:], max_new_tokens=5, state=own) == wanted
    assert fast.generate(PROMPT, max_new_tokens=9, sampling=Sampling(temperature=1, top_k=1)) == (
        wanted
    )


def test_errors_are_those_of_native_networks(tmp_path: Path) -> None:
    fast = compile_sparse_lm(made(opt), context=20)
    with pytest.raises(UserError, match="no tokens"):
        fast.generate([])
    with pytest.raises(UserError, match="token 250"):
        fast.generate([250])
    with pytest.raises(UserError, match="context of 20"):
        fast.generate([1] * 21)
    with pytest.raises(UserError, match="no native step"):
        fast.save(tmp_path / "a.wsr")
    with pytest.raises(UserError, match="context=500: from 1 to 128"):
        compile_sparse_lm(made(opt), context=500)
    with pytest.raises(UserError, match="tokenizer has 300 tokens"):
        compile_sparse_lm(made(opt), Words(300))
    with pytest.raises(UserError, match="causal language model is needed"):
        compile_sparse_lm(transformers.OPTModel(made(opt).config))


@pytest.mark.parametrize(
    ("model", "why"),
    [
        (lambda: llama(head_dim=8), "heads of depth 8"),
        (lambda: llama(hidden_act="gelu"), "activation gelu"),
        (lambda: gpt2(activation_function="relu"), "activation relu"),
        (lambda: gpt2(scale_attn_by_inverse_layer_idx=True), "another scale"),
    ],
)
def test_parts_that_the_native_step_lacks(
    model: Any, why: str, capsys: pytest.CaptureFixture[str]
) -> None:
    dense = model()
    fast = compile_sparse_lm(dense, dtype="fp32")
    assert why in capsys.readouterr().err
    state = fast.state()
    fast.engine.feed(state, PROMPT)
    with torch.no_grad():
        whole = dense(torch.tensor([PROMPT])).logits[0, -1].numpy()
    assert np.abs(state.logits - whole).max() < 2e-5 * np.abs(whole).max()
