from __future__ import annotations

import pytest
import torch
from torch import nn

from ws_learner.core import half_types, narrowed, tensor_types, widened


def test_a_network_is_widened_and_gets_its_types_again() -> None:
    model = nn.Sequential(nn.Linear(3, 3).bfloat16(), nn.BatchNorm1d(3), nn.Linear(3, 3).double())
    types, names = tensor_types(model), [name for name, _ in model.named_parameters()]
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    assert half_types(model) == "bfloat16"
    widened(model)
    assert {p.dtype for p in model.parameters()} == {torch.float32, torch.float64}
    assert half_types(model) == ""
    narrowed(model, types)
    assert tensor_types(model) == types
    assert [name for name, _ in model.named_parameters()] == names
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


@pytest.mark.parametrize("kind", [torch.float16, torch.bfloat16])
def test_only_zeros_are_stored_as_zeros(kind: torch.dtype) -> None:
    model = nn.Linear(5, 1, bias=False).to(kind)
    types = tensor_types(widened(model).to(kind))
    widened(model)
    values = torch.tensor([[0.0, 1e-12, -1e-12, 1e-44, 0.5]])
    model.weight.data = values
    narrowed(model, types)
    assert model.weight.dtype == kind
    assert torch.equal(model.weight.detach().float().sign(), values.sign())
    assert (model.weight.detach().float() - values).abs().max() < 1e-7
