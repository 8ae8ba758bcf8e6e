"""Networks without a native step: PyTorch around the decode kernels' linear layers."""

from __future__ import annotations

import copy
import inspect
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import nn

from ws_learner.core import UserError, say
from ws_learner.deploy.decode.decode_linear import DecodeLinear
from ws_learner.deploy.decode.isas import decode_isa
from ws_learner.deploy.decode.numbers import Floats
from ws_learner.deploy.decode.prompts import check_context, check_prompt
from ws_learner.deploy.decode.sampling import Sampling, draw_token
from ws_learner.deploy.decode.weights import Pack, end_tokens, floats

__all__ = ["TorchEngine", "TorchState"]

_POSITIONS = ("max_position_embeddings", "n_positions", "max_seq_len", "seq_length")
_UNKNOWN = 2048  # positions of networks whose settings name none


class TorchState:
    """The cache of one text, and the last token's logits. Not to be shared by threads.

    Attributes:
        room: Tokens that it has room for.
        position: Tokens in the cache.
        logits: (vocabulary,) of the last token.
        cache: transformers' cache, or None before the first token.
    """

    def __init__(self, room: int) -> None:
        """An empty cache."""
        self.room, self.position = room, 0
        self.logits: Floats = np.zeros(0, np.float32)
        self.cache: Any = None

    @property
    def best(self) -> int:
        """The token with the largest logit, after the last one."""
        return int(self.logits.argmax())

    def copy(self) -> TorchState:
        """A second state, to go on from here in two ways."""
        return copy.deepcopy(self)


class TorchEngine:
    """A copy of a network whose linear layers are `DecodeLinear`.

    Attributes:
        model: The copy.
        vocabulary: Tokens.
        context: Most tokens of a text.
        end: Tokens that end a text.
    """

    def __init__(
        self,
        model: Any,
        pack: Pack,
        *,
        why: str,
        context: int | None,
        isa: str | None,
        threads: int = 1,
    ) -> None:
        """Replace the layers, and try one token.

        Args:
            model: A causal language model of transformers; not changed.
            pack: See `packer`.
            why: What the native step lacks; it is said.
            context: Most tokens of a text (default: what the network was made for).
            isa: Instruction set (default: the best of this processor).
            threads: Of our layers; PyTorch's own follow `torch.set_num_threads`.

        Raises:
            UserError: It is no causal language model, or cannot run with such layers.
            RuntimeError: The processor is not supported, or llvmlite is missing.
        """
        self._check(model, why)
        settings = model.config.get_text_config()
        known = [getattr(settings, name, None) for name in _POSITIONS]
        self._most = next((int(n) for n in known if n), None)
        self.context = check_context(context, self._most or max(context or 0, _UNKNOWN))
        self.vocabulary, self.end = int(settings.vocab_size), end_tokens(model)
        self.model, count = _replaced(model, pack, decode_isa(isa).name, threads)
        accepted = inspect.signature(self.model.forward).parameters
        self._options = {"logits_to_keep": 1} if "logits_to_keep" in accepted else {}
        self._try()
        say(
            f"{type(model).__name__}: no native step ({why}); PyTorch runs the network around "
            f"{count} sparse layers"
        )

    def state(self) -> TorchState:
        """An empty cache."""
        return TorchState(self.context)

    def feed(self, state: TorchState, ids: Sequence[int]) -> None:
        """See `Engine.feed`."""
        self.check(state, ids)
        with torch.no_grad():
            found = self.model(
                input_ids=torch.tensor([[int(i) for i in ids]]),
                past_key_values=state.cache,
                use_cache=True,
                **self._options,
            )
        state.cache = found.past_key_values
        state.logits = found.logits[0, -1].float().numpy().copy()
        state.position += len(ids)

    def check(self, state: TorchState, ids: Sequence[int]) -> None:
        """See `Engine.feed`."""
        check_prompt(ids, self.vocabulary, state.position, state.room, self._most or self.context)

    def advance(self, state: TorchState, token: int) -> None:
        """`feed` of one token."""
        self.feed(state, (token,))

    def draw(self, state: TorchState, sampling: Sampling, share: float) -> int:
        """See `draw_token`."""
        return draw_token(state.logits, sampling, share)

    def save(self, path: Any) -> None:
        """There is no file of such a network.

        Raises:
            UserError: Always.
        """
        raise UserError(
            f"{path}: {type(self.model).__name__} has no native step, so there is no .wsr file of "
            "it; keep the network with save_pretrained and compile it again"
        )

    @staticmethod
    def _check(model: Any, why: str) -> None:
        config = getattr(model, "config", None)
        if config is None or not hasattr(model, "get_output_embeddings"):
            raise UserError(f"model of {why}: a causal language model of transformers is needed")
        if getattr(config, "is_encoder_decoder", False) or model.get_output_embeddings() is None:
            raise UserError(
                f"model of {why}: a causal language model is needed, one that gives logits of the "
                "next token (AutoModelForCausalLM)"
            )

    def _try(self) -> None:
        state = self.state()
        try:
            self.feed(state, [0])
        except Exception as error:  # whatever a network's own code raises
            raise UserError(
                f"{type(self.model).__name__} cannot run with our layers and a cache ({error}); "
                "use PyTorch"
            ) from error
        if state.cache is None:
            raise UserError(f"{type(self.model).__name__} keeps no cache; use PyTorch")


def _replaced(model: Any, pack: Pack, isa: str, threads: int) -> tuple[Any, int]:
    """A copy in evaluation mode, and how many layers were replaced."""
    tensors = [*model.parameters(), *model.buffers()]
    narrow = any(t.is_floating_point() and t.dtype != torch.float32 for t in tensors)
    memo = {} if narrow else {id(t): t for t in tensors}  # else weights are shared
    own = copy.deepcopy(model, memo).eval()
    own = own.float() if narrow else own
    head, count = own.get_output_embeddings(), 0
    for parent in list(own.modules()):
        for name, child in list(parent.named_children()):
            turned = type(child).__name__ == "Conv1D"
            if type(child) is not nn.Linear and not turned:
                continue
            weight = floats(child.weight.T if turned else child.weight)
            bias = None if child.bias is None else floats(child.bias)
            packed = pack(weight, bias, dense=child is head)
            setattr(parent, name, DecodeLinear(packed, isa=isa, threads=threads))
            count += 1
    if not count:
        raise UserError(f"{type(model).__name__} has no linear layers that could be replaced")
    return own, count
