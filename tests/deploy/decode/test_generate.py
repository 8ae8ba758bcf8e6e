"""Decoding against transformers' Llama, token by token."""

from __future__ import annotations

import os
from typing import Any

import numpy as np
import pytest
import torch

pytest.importorskip("llvmlite")
transformers = pytest.importorskip("transformers")

from tests.support.decode_llama import PROMPT, gpt2, llama  # noqa: E402
from ws_learner.core import UserError  # noqa: E402
from ws_learner.data import cache_folder  # noqa: E402
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
@pytest.mark.parametrize("kind", [llama, gpt2])
def test_64_greedy_tokens_are_those_of_pytorch(isa: str, zeros: float, kind: Any) -> None:
    model = kind(zeros=zeros)
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
    near_pytorch(llama(**other))


@pytest.mark.parametrize(
    "other",
    [
        {"n_head": 1, "n_inner": None, "activation_function": "gelu_pytorch_tanh"},
        {"tie_word_embeddings": False, "n_embd": 80, "n_head": 5, "layer_norm_epsilon": 1e-3},
    ],
)
def test_kinds_of_gpt2(other: dict[str, Any]) -> None:
    near_pytorch(gpt2(**other))


def near_pytorch(model: Any) -> None:
    """Logits after each token of the prompt."""
    fast = compile_sparse_lm(model, dtype="fp32")
    with torch.no_grad():
        whole = model(torch.tensor([PROMPT])).logits[0].numpy()
    assert np.abs(logits_of(fast, PROMPT) - whole).max() < 2e-5 * np.abs(whole).max()


@pytest.mark.parametrize("isa", NAMES)
@pytest.mark.parametrize(("dtype", "most"), [("int8", 0.05), ("int4", 0.4)])
@pytest.mark.parametrize("kind", [llama, gpt2])
def test_bytes_and_nibbles_are_near(isa: str, dtype: str, most: float, kind: Any) -> None:
    model = kind()
    with torch.no_grad():
        whole = model(torch.tensor([PROMPT])).logits[0].numpy()
    found = logits_of(compile_sparse_lm(model, dtype=dtype, isa=isa, group=32), PROMPT)
    assert np.linalg.norm(found - whole) < most * np.linalg.norm(whole)


@pytest.mark.parametrize("dtype", ["fp32", "int8", "int4"])
@pytest.mark.parametrize("kind", [llama, gpt2])
def test_a_prompt_in_one_call_is_as_token_by_token(dtype: str, kind: Any) -> None:
    fast = compile_sparse_lm(kind(), dtype=dtype)
    wanted = logits_of(fast, PROMPT)
    for count in range(1, len(PROMPT) + 1):
        state = fast.state()
        fast.engine.feed(state, PROMPT[:count])
        assert np.allclose(state.logits, wanted[count - 1], rtol=1e-4, atol=1e-4)
        assert state.position == count


@pytest.mark.parametrize("dtype", ["fp32", "int8", "int4"])
@pytest.mark.parametrize("kind", [llama, gpt2])
def test_two_threads_give_the_bits_of_one(dtype: str, kind: Any) -> None:
    if (os.cpu_count() or 1) < 2:
        pytest.skip("one processor")
    model = kind()
    one, two = (compile_sparse_lm(model, dtype=dtype, threads=n) for n in (1, 2))
    assert two.generate(PROMPT, max_new_tokens=8) == one.generate(PROMPT, max_new_tokens=8)
    assert (logits_of(two, PROMPT) == logits_of(one, PROMPT)).all()


def test_threads_out_of_range() -> None:
    for threads in (0, 10**6):
        with pytest.raises(UserError, match=f"threads={threads}: give 1 to"):
            compile_sparse_lm(llama(), threads=threads)


def test_stop_and_go_on() -> None:
    fast = compile_sparse_lm(llama())
    wanted = fast.generate(PROMPT, max_new_tokens=12)
    assert fast.generate(PROMPT, max_new_tokens=12) == wanted  # without a state a text begins
    state = fast.state()
    first = fast.generate(PROMPT, max_new_tokens=5, state=state)
    copied = state.copy()
    for own in (state, copied):
        assert first + fast.generate(first[-1:], max_new_tokens=7, state=own) == wanted
    with pytest.raises(UserError, match="to go on from a state, give the last token"):
        fast.generate([], state=state)


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
    with pytest.raises(UserError, match="causal language model of transformers"):
        compile_sparse_lm(torch.nn.Linear(3, 3))
    with pytest.raises(UserError, match="fast tokenizer"):
        compile_sparse_lm(llama(), object())
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


@pytest.mark.slow
def test_smollm2_gives_the_tokens_of_transformers() -> None:
    """64 greedy tokens of the whole network, dense and in FP32, where it is on this machine."""
    cached = cache_folder() / "smollm2"
    if not cached.is_dir():
        pytest.skip("SmolLM2 is not on this machine")
    from ws_learner.language import smollm2_folder

    loader: Any = transformers.AutoModelForCausalLM
    model = loader.from_pretrained(smollm2_folder(), dtype=torch.float32).eval()
    fast = compile_sparse_lm(model, dtype="fp32", context=128)
    prompt = [504, 2413, 282, 260, 9166, 314]
    found = fast.generate(prompt, max_new_tokens=64)
    with torch.no_grad():
        whole = model(torch.tensor([[*prompt, *found]])).logits[0]
    assert found == whole[len(prompt) - 1 : -1].argmax(-1)[: len(found)].tolist()
    assert len(found) == 64 or found[-1] in fast.engine.end
