"""A compiled language model: generate tokens one native call at a time."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np

from ws_learner.core import AnyPath, UserError
from ws_learner.deploy.decode.architectures import network_of, why_not_native
from ws_learner.deploy.decode.engine import DecodeState, Engine
from ws_learner.deploy.decode.files import read_network
from ws_learner.deploy.decode.prompts import check_threads
from ws_learner.deploy.decode.sampling import Sampling
from ws_learner.deploy.decode.torch_engine import TorchEngine, TorchState
from ws_learner.deploy.decode.weights import packer

__all__ = ["SparseLM", "compile_sparse_lm", "load_sparse_lm"]

State = DecodeState | TorchState


class SparseLM:
    """A language model in generated code. Threads may use it at once, each with a state of its own.

    Attributes:
        engine: Runs it: one native call for each token, or PyTorch around sparse layers.
        tokenizer: Of the package tokenizers, or None.
    """

    def __init__(self, engine: Engine | TorchEngine, tokenizer: Any = None) -> None:
        """See `compile_sparse_lm` and `load_sparse_lm`."""
        self.engine: Any = engine
        self.tokenizer = tokenizer

    def state(self) -> Any:
        """An empty cache, for `generate` and `stream` to fill."""
        return self.engine.state()

    def stream(
        self,
        ids: Sequence[int],
        *,
        max_new_tokens: int = 64,
        sampling: Sampling | None = None,
        state: State | None = None,
    ) -> Iterator[int]:
        """Give tokens as they come, up to one that ends the text (given, too).

        Args:
            ids: Tokens of the prompt, at least one; with a `state`, those that come after its.
            max_new_tokens: Most tokens to give.
            sampling: How they are chosen (default: the most likely one).
            state: To go on with later. Its cache then lacks the last token given.

        Raises:
            UserError: Before anything is given: the prompt is empty, has tokens the network does
                not have, or does not fit in the context.
        """
        if max_new_tokens < 1:
            raise UserError(f"max_new_tokens={max_new_tokens}: give 1 or more")
        own, ids = state or self.state(), [int(i) for i in ids]
        self.engine.check(own, ids)
        return self._tokens(own, ids, max_new_tokens, sampling or Sampling())

    def generate(
        self,
        ids: Sequence[int],
        *,
        max_new_tokens: int = 64,
        sampling: Sampling | None = None,
        state: State | None = None,
    ) -> list[int]:
        """The tokens of `stream` in one list, without the prompt."""
        return list(self.stream(ids, max_new_tokens=max_new_tokens, sampling=sampling, state=state))

    def encode(self, text: str) -> list[int]:
        """The tokens of a text, without special ones around it.

        Raises:
            UserError: There is no tokenizer.
        """
        found: list[int] = self._tokenizer().encode(text, add_special_tokens=False).ids
        return found

    def decode(self, ids: Sequence[int]) -> str:
        """The text of tokens.

        Raises:
            UserError: There is no tokenizer.
        """
        return str(self._tokenizer().decode(list(ids), skip_special_tokens=True))

    def save(self, path: AnyPath) -> None:
        """Write a `.wsr` file: packed weights, sizes and tokenizer; see `load_sparse_lm`.

        Raises:
            UserError: It cannot be written, or the network has no native step.
        """
        self.engine.save(path)

    def _tokenizer(self) -> Any:
        if self.tokenizer is None:
            raise UserError(
                "there is no tokenizer: give one to compile_sparse_lm, or token numbers"
            )
        return self.tokenizer

    def _tokens(
        self, state: State, ids: Sequence[int], most: int, sampling: Sampling
    ) -> Iterator[int]:
        end, choose = self.engine.end, self._chooser(state, sampling)
        self.engine.feed(state, ids)
        for number in range(most):
            token = choose()
            yield token
            if token in end or state.position >= state.room or number + 1 == most:
                return
            self.engine.advance(state, token)

    def _chooser(self, state: State, sampling: Sampling) -> Callable[[], int]:
        if sampling.temperature == 0:
            return lambda: state.best
        draw = np.random.default_rng(sampling.seed)
        return lambda: int(self.engine.draw(state, sampling, draw.random()))


def compile_sparse_lm(
    model: Any,
    tokenizer: Any = None,
    *,
    dtype: str = "int8",
    group: int = 64,
    least_zeros: float = 0.25,
    context: int | None = None,
    isa: str | None = None,
    threads: int = 1,
) -> SparseLM:
    """Compile a causal language model for decoding on this processor.

    Zeros of linear layers are left out in any pattern. Embedding and head stay dense.
    `LlamaForCausalLM` and `GPT2LMHeadModel` run natively, one call for each token. In others
    PyTorch runs the network, and the linear layers alone are replaced; a line says so.

    Args:
        model: A causal language model of transformers; not changed.
        tokenizer: A fast tokenizer of transformers, for text; None for token numbers only.
        dtype: `fp32`; `int8`: bytes, one scale for each output; `int4`: 4 bits by group (the
            embedding in bytes). Activations are bytes with a scale for each token, but for `fp32`.
        group: Inputs that share a scale, 32 or 64; `int4` only.
        least_zeros: Share of zeros from which a layer is stored without them. That always saves
            memory; where memory is fast, a smaller share than 0.6 (`int8`) or 0.8 (`int4`) costs
            time. Above 1, all layers are stored dense.
        context: Most tokens of a text (default: what the network was made for).
        isa: Instruction set (default: the best of this processor).
        threads: That share a token's work, up to the processors that there are. Outputs are the
            same.

    Raises:
        UserError: An option is out of range, the network or the tokenizer is of another type, or
            they do not belong together.
        RuntimeError: The processor is not supported, or llvmlite is missing.
    """
    text = "" if tokenizer is None else _text_of(tokenizer)
    check_threads(threads)
    if why := why_not_native(model):
        pack = packer(dtype=dtype, group=group, least_zeros=least_zeros)
        other = TorchEngine(model, pack, why=why, context=context, isa=isa, threads=threads)
        return SparseLM(other, _opened(text, other.vocabulary))
    network = network_of(model, dtype=dtype, group=group, tokenizer=text, least_zeros=least_zeros)
    opened = _opened(text, network.sizes.vocabulary)
    return SparseLM(Engine(network, context=context, isa=isa, threads=threads), opened)


def load_sparse_lm(
    path: AnyPath, *, context: int | None = None, isa: str | None = None, threads: int = 1
) -> SparseLM:
    """Open a file of `SparseLM.save`; no code of the model's class is needed, and none runs.

    Raises:
        UserError: The file is missing, damaged, or does not follow the format.
        RuntimeError: The processor is not supported, or llvmlite is missing.
    """
    network = read_network(path)
    opened = _opened(network.tokenizer, network.sizes.vocabulary)
    return SparseLM(Engine(network, context=context, isa=isa, threads=threads), opened)


def _text_of(tokenizer: Any) -> str:
    backend = getattr(tokenizer, "backend_tokenizer", None)
    if backend is None:
        raise UserError(
            f"tokenizer of type {type(tokenizer).__name__}: a fast tokenizer of transformers is "
            "needed (AutoTokenizer.from_pretrained), or None and token numbers"
        )
    return str(backend.to_str())


def _opened(text: str, vocabulary: int) -> Any:
    if not text:
        return None
    try:
        from tokenizers import Tokenizer
    except ModuleNotFoundError as error:
        raise UserError("text needs the package tokenizers: pip install tokenizers") from error
    try:
        found = Tokenizer.from_str(text)
    except Exception as error:  # the package raises bare exceptions
        raise UserError("the tokenizer's file cannot be read; save the network again") from error
    most = found.get_vocab_size()
    if most > vocabulary:
        raise UserError(
            f"the tokenizer has {most} tokens and the network {vocabulary}: they do not belong "
            "together; give the network's own"
        )
    return found
