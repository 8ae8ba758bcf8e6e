"""Decoding against transformers' Llama, token by token."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

pytest.importorskip("llvmlite")
transformers = pytest.importorskip("transformers")

from tests.support.decode_llama import PROMPT, llama  # noqa: E402
from ws_learner.core import UserError  # noqa: E402
from ws_learner.deploy.decode import Sampling, compile_sparse_lm  # noqa: E402
from ws_learner.deploy.decode.isas import usable_decode_isas  # noqa: E402

NAMES = [
    pytest.param(isa.name, marks=[] if place == 0 else [pytest.mark.slow])
    for place, isa in enumerate(usable_decode_isas())
]
"""The best set in each run, the others in slow ones; products are tested for each in any case."""


def logits_of(fast: Any, ids: list[int]) -> Any:
    """Logits after each token, fed one at a time."""
    state, rows = fast.state(), []
    for token in ids:
        fast.engine.feed(state, [token])
        rows.append(state.logits.copy())
    return np.array(rows)


@pytest.mark.parametrize("isa", NAMES)
@pytest.mark.parametrize("zeros", [0.0, 0.6])
def test_64_greedy_tokens_are_those_of_pytorch(isa: str, zeros: float) -> None:
    model = llama(zeros=zeros)
    fast = compile_sparse_lm(model, dtype="fp32", isa=isa)
    found = fast.generate(PROMPT, max_new_tokens=64)
    with torch.no_grad():
        whole = model(torch.tensor([[*PROMPT, *found]])).logits[0].numpy()
    assert found == list(whole[len(PROMPT) - 1 : -1].argmax(-1))
    ours = logits_of(fast, [*PROMPT, *found])
    assert np.abs(ours - whole).max() < 2e-5 * np.abs(whole).max()


@pytest.mark.parametrize(
    "other",
    [
        {"attention_bias": True, "mlp_bias": True},
        {"tie_word_embeddings": True, "num_key_value_heads": 6},
        {"head_dim": 48, "num_attention_heads": 2, "num_key_value_heads": 1},
        {"rope_parameters": {"rope_type": "linear", "factor": 2.0, "rope_theta": 1000.0}},
    ],
)
def test_kinds_of_llama(other: dict[str, Any]) -> None:
    model = llama(**other)
    fast = compile_sparse_lm(model, dtype="fp32")
    with torch.no_grad():
        whole = model(torch.tensor([PROMPT])).logits[0].numpy()
    assert np.abs(logits_of(fast, PROMPT) - whole).max() < 2e-5 * np.abs(whole).max()


@pytest.mark.parametrize("isa", NAMES)
@pytest.mark.parametrize(("dtype", "most"), [("int8", 0.05), ("int4", 0.4)])
def test_bytes_and_nibbles_are_near(isa: str, dtype: str, most: float) -> None:
    model = llama()
    with torch.no_grad():
        whole = model(torch.tensor([PROMPT])).logits[0].numpy()
    found = logits_of(compile_sparse_lm(model, dtype=dtype, isa=isa, group=32), PROMPT)
    assert np.linalg.norm(found - whole) < most * np.linalg.norm(whole)


@pytest.mark.parametrize("dtype", ["fp32", "int8", "int4"])
def test_a_prompt_in_one_call_is_as_token_by_token(dtype: str) -> None:
    fast = compile_sparse_lm(llama(), dtype=dtype)
    wanted = logits_of(fast, PROMPT)
    for count in range(1, len(PROMPT) + 1):
        state = fast.state()
        fast.engine.feed(state, PROMPT[:count])
        assert np.allclose(state.logits, wanted[count - 1], rtol=1e-4, atol=1e-4)
        assert state.position == count


def test_stop_and_go_on() -> None:
    fast = compile_sparse_lm(llama())
    wanted = fast.generate(PROMPT, max_new_tokens=12)
    state = fast.state()
    first = fast.generate(PROMPT, max_new_tokens=5, state=state)
    copied = state.copy()
    for own in (state, copied):
        assert first + fast.generate(first[-1:], max_new_tokens=7, state=own) == wanted


def test_sampling() -> None:
    fast = compile_sparse_lm(llama())

    def tokens(**options: Any) -> list[int]:
        return fast.generate(PROMPT, max_new_tokens=20, sampling=Sampling(**options))

    assert tokens(temperature=1.0, seed=1) == tokens(temperature=1.0, seed=1)
    assert tokens(temperature=1.0, seed=1) != tokens(temperature=1.0, seed=2)
    assert tokens(temperature=1.0, top_k=1) == tokens() == tokens(temperature=1.0, top_p=1e-6)


def test_the_context_ends() -> None:
    fast = compile_sparse_lm(llama(), context=20)
    assert len(fast.generate(PROMPT, max_new_tokens=100)) == 20 - len(PROMPT) + 1
    with pytest.raises(UserError, match="do not fit in a context of 20"):
        fast.generate(PROMPT * 3)
    with pytest.raises(UserError, match="context=200: from 1 to 128"):
        compile_sparse_lm(llama(), context=200)


def test_bad_prompts() -> None:
    fast = compile_sparse_lm(llama())
    with pytest.raises(UserError, match="no tokens"):
        fast.generate([])
    with pytest.raises(UserError, match=r"token 250: .* 0 to 249"):
        fast.generate([3, 250])
    with pytest.raises(UserError, match="no tokenizer"):
        fast.encode("a")


def test_other_networks_and_tokenizers_are_refused() -> None:
    with pytest.raises(UserError, match="only LlamaForCausalLM"):
        compile_sparse_lm(torch.nn.Linear(3, 3))
    with pytest.raises(UserError, match="fast tokenizer"):
        compile_sparse_lm(llama(), object())
    with pytest.raises(UserError, match="multiple of 16"):
        compile_sparse_lm(llama(head_dim=8))
    with pytest.raises(UserError, match="dtype='int3'"):
        compile_sparse_lm(llama(), dtype="int3")


def test_the_end_token_ends() -> None:
    model = llama()
    free = compile_sparse_lm(model).generate(PROMPT, max_new_tokens=20)
    model.generation_config.eos_token_id = free[4]
    assert (
        compile_sparse_lm(model).generate(PROMPT, max_new_tokens=20)
        == free[: free.index(free[4]) + 1]
    )
