"""Tensors of a method in a state_dict: keys, copies, and loading all of them or none."""

from __future__ import annotations

import pytest
import torch

from ws_learner.core.errors import UserError
from ws_learner.pruning.methods.tensor_state import copy_parts, load_parts, take_part


def parts() -> dict[str, dict[str, torch.Tensor]]:
    return {"mask": {"a.weight": torch.ones(2)}, "latent": {"a.weight": torch.arange(2.0)}}


def test_state_has_copies_under_part_and_name() -> None:
    own = parts()
    state = copy_parts(own)
    assert list(state) == ["mask.a.weight", "latent.a.weight"]
    own["mask"]["a.weight"].zero_()
    assert state["mask.a.weight"].tolist() == [1, 1]
    load_parts(own, state)
    assert own["mask"]["a.weight"].tolist() == [1, 1]


@pytest.mark.parametrize("change", ["missing", "more", "shape"])
def test_a_state_of_other_tensors_is_refused_and_changes_nothing(change: str) -> None:
    own = parts()
    state = {key: tensor + 5 for key, tensor in copy_parts(own).items()}
    if change == "missing":
        del state["latent.a.weight"]
    else:
        state["latent.a.weight" if change == "shape" else "latent.b.weight"] = torch.zeros(3)
    with pytest.raises(UserError, match=r"another network or target: latent\.[ab]\.weight"):
        load_parts(own, state)
    assert own["mask"]["a.weight"].tolist() == [1, 1]


def test_a_part_is_taken_out_of_a_state() -> None:
    taken, rest = take_part(copy_parts(parts()), "mask")
    assert (list(taken), list(rest)) == (["a.weight"], ["latent.a.weight"])
