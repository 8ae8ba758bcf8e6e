"""Inputs of the weights of a recurrent network, step by step."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn.utils.rnn import PackedSequence, pad_packed_sequence

__all__ = ["cell_inputs", "recurrent_inputs"]


@torch.no_grad()
def recurrent_inputs(
    module: nn.RNNBase, inputs: Tensor | PackedSequence, states: Any = None
) -> tuple[dict[str, Tensor], Tensor]:
    """What each weight of an RNN, GRU or LSTM is multiplied by, in evaluation mode.

    Args:
        module: The network.
        inputs: Its input, packed or not.
        states: Its first states; None: zeros.

    Returns:
        Weight -> (B, T, D) vectors, and (B, T) False behind the end of a sequence.
    """
    found: dict[str, Tensor] = {}
    ways = 2 if module.bidirectional else 1
    there, batch_first = _steps(module, inputs)
    order = inputs.sorted_indices if isinstance(inputs, PackedSequence) else None
    for layer in range(module.num_layers):
        one, parameters = _single(module, layer, ways)
        first = _of_layer(states, layer, ways)
        outputs, _ = functional_call(one, parameters, (inputs, first))
        plain, after = (_batch_first(x, batch_first) for x in (inputs, outputs))
        for way in range(ways):
            end = f"_l{layer}" + "_reverse" * way
            width = after.shape[2] // ways
            own = after[..., way * width : (way + 1) * width]
            start = _first(first, way, own, order)
            before = _shifted(own, start[0], there, backwards=bool(way))
            found[f"weight_ih{end}"], found[f"weight_hh{end}"] = plain, before
            if module.proj_size:
                found[f"weight_hr{end}"] = _unprojected(
                    parameters, "_reverse" * way, plain, before, start[1], there
                )
        inputs = outputs
    return found, there


def _single(module: nn.RNNBase, layer: int, ways: int) -> tuple[nn.RNNBase, dict[str, Tensor]]:
    """One layer of the network, and its parameters."""
    outputs = (module.proj_size or module.hidden_size) * ways
    settings: dict[str, Any] = {
        "bias": module.bias,
        "batch_first": module.batch_first,
        "bidirectional": module.bidirectional,
    }
    if isinstance(module, nn.LSTM):
        settings["proj_size"] = module.proj_size
    if isinstance(module, nn.RNN):
        settings["nonlinearity"] = module.nonlinearity
    cls = next(c for c in (nn.LSTM, nn.GRU, nn.RNN) if isinstance(module, c))
    size = module.input_size if not layer else outputs
    one = cls(size, module.hidden_size, device="meta", **settings)
    names = [name for name, _ in one.named_parameters()]
    own = {name: name.replace("_l0", f"_l{layer}") for name in names}
    return one.eval(), {name: getattr(module, mine) for name, mine in own.items()}


def _of_layer(states: Any, layer: int, ways: int) -> Any:
    if states is None:
        return None
    if isinstance(states, tuple):
        return tuple(_of_layer(state, layer, ways) for state in states)
    return states[layer * ways : (layer + 1) * ways]


def _first(
    states: Any, way: int, like: Tensor, order: Tensor | None
) -> tuple[Tensor, Tensor | None]:
    """(B, H) first hidden state and cell state of one direction; None is zero."""
    if states is None:
        return like.new_zeros(like.shape[0], like.shape[2]), None
    both = states if isinstance(states, tuple) else (states,)
    flat = [state[way].reshape(like.shape[0], -1) for state in both]
    if order is not None:  # a packed batch is sorted by length
        flat = [state[order] for state in flat]
    return flat[0], flat[1] if len(flat) > 1 else None


def _steps(module: nn.RNNBase, inputs: Tensor | PackedSequence) -> tuple[Tensor, bool]:
    """(B, T) which steps there are, and whether the batch comes first."""
    if isinstance(inputs, PackedSequence):
        sizes = inputs.batch_sizes
        lengths = (sizes[None] > torch.arange(int(sizes[0]))[:, None]).to(inputs.data.device)
        return lengths, False
    plain = _batch_first(inputs, module.batch_first)
    return torch.ones(plain.shape[:2], dtype=torch.bool, device=plain.device), module.batch_first


def _batch_first(values: Tensor | PackedSequence, batch_first: bool) -> Tensor:
    """(B, T, D), the sequences of a packed batch in its own order."""
    if isinstance(values, PackedSequence):
        sorted_ = PackedSequence(values.data, values.batch_sizes)
        padded: Tensor = pad_packed_sequence(sorted_, batch_first=True)[0]
        return padded
    if values.dim() == 2:
        return values[None]
    return values if batch_first else values.transpose(0, 1)


def _shifted(states: Tensor, first: Tensor, there: Tensor, *, backwards: bool) -> Tensor:
    """State before each step: that of the step before it, in the direction of reading."""
    if not backwards:
        return torch.cat([first[:, None], states[:, :-1]], 1)
    after = torch.cat([states[:, 1:], first[:, None]], 1)
    last = there & ~torch.cat([there[:, 1:], torch.zeros_like(there[:, :1])], 1)
    return torch.where(last[..., None], first[:, None], after)


def _unprojected(
    parameters: dict[str, Tensor],
    end: str,
    inputs: Tensor,
    before: Tensor,
    cell: Tensor | None,
    there: Tensor,
) -> Tensor:
    """(B, T, H) hidden states of an LSTM before their projection."""
    sums = inputs @ parameters[f"weight_ih_l0{end}"].T + before @ parameters[f"weight_hh_l0{end}"].T
    for kind in ("ih", "hh"):
        if (bias := parameters.get(f"bias_{kind}_l0{end}")) is not None:
            sums = sums + bias
    let_in, keep, new, out = sums.chunk(4, 2)
    written = let_in.sigmoid() * new.tanh()
    steps = range(inputs.shape[1])
    now = torch.zeros_like(written[:, 0]) if cell is None else cell
    hidden = torch.zeros_like(written)
    for step in reversed(steps) if end else steps:
        fresh = keep[:, step].sigmoid() * now + written[:, step]
        now = torch.where(there[:, step, None], fresh, now)
        hidden[:, step] = out[:, step].sigmoid() * now.tanh()
    return hidden


def cell_inputs(module: nn.RNNCellBase, inputs: Tensor, states: Any = None) -> dict[str, Tensor]:
    """What the two weights of a cell are multiplied by: weight -> (B, D)."""
    hidden = states[0] if isinstance(states, tuple) else states
    rows = inputs if inputs.dim() == 2 else inputs[None]
    if hidden is None:
        hidden = rows.new_zeros(len(rows), module.hidden_size)
    return {"weight_ih": rows, "weight_hh": hidden.reshape(len(rows), -1)}
