from __future__ import annotations

from collections import OrderedDict, UserDict, namedtuple
from dataclasses import dataclass
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from ws_learner import UserError
from ws_learner.core import (
    call_model,
    count_of,
    describe_output,
    main_output,
    map_tensors,
    rows_of,
    run_model,
    tensors_of,
)

ONES, TWOS = torch.ones(3, 2), torch.full((3, 2), 2.0)


class Difference(nn.Module):
    def forward(self, left: Tensor, right: Tensor) -> Tensor:
        return left - right


class OfDict(nn.Module):
    def forward(self, features: dict[str, Tensor]) -> Tensor:
        return features["left"] - features["right"]


class OfList(nn.Module):
    def forward(self, features: list[Tensor]) -> Tensor:
        return features[0] - features[1]


class Plain(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return 3 * x


@pytest.mark.parametrize(
    ("model", "inputs"),
    [
        (Difference(), (ONES, TWOS)),
        (Difference(), [ONES, TWOS]),
        (Difference(), {"right": TWOS, "left": ONES}),
        (Difference(), UserDict(right=TWOS, left=ONES)),
        (nn.DataParallel(Difference()), {"right": TWOS, "left": ONES}),
        (OfDict(), {"right": TWOS, "left": ONES}),
        (OfList(), (ONES, TWOS)),
    ],
)
def test_inputs_arrive_at_their_arguments(model: nn.Module, inputs: Any) -> None:
    assert torch.equal(call_model(model, inputs), ONES - TWOS)


@pytest.mark.parametrize("inputs", [ONES, (ONES,), {"x": ONES}, {"image": ONES}])
def test_one_input_arrives_under_any_name(inputs: Any) -> None:
    assert torch.equal(call_model(Plain(), inputs), 3 * ONES)


@pytest.mark.parametrize(
    ("inputs", "said"),
    [
        ({"left": ONES, "rihgt": TWOS}, "the batch holds left, rihgt"),
        ((ONES, TWOS, ONES), "the batch holds 3 in a tuple"),
        (ONES, r"takes left, right, and the batch holds \(3, 2\)"),
    ],
)
def test_inputs_that_do_not_fit_are_named(inputs: Any, said: str) -> None:
    with pytest.raises(UserError, match=said):
        run_model(Difference(), inputs)


def test_an_error_inside_the_network_stays_what_it_is() -> None:
    class Broken(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return len(3)  # type: ignore[arg-type, return-value]

    with pytest.raises(TypeError, match="has no len"):
        run_model(Broken(), ONES)


@pytest.mark.parametrize("kind", [torch.float16, torch.bfloat16, torch.float64])
def test_floating_inputs_get_the_type_of_the_weights(kind: torch.dtype) -> None:
    class Typed(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer = nn.Linear(2, 2, dtype=kind)

        def forward(self, x: Tensor, index: Tensor) -> Tensor:
            assert (x.dtype, index.dtype) == (kind, torch.int64)
            return self.layer(x)

    assert call_model(Typed(), (ONES, torch.arange(3))).dtype == kind


@dataclass
class Answer:
    loss: Tensor
    logits: Tensor


Pair = namedtuple("Pair", ["logits", "aux"])


@pytest.mark.parametrize(
    ("answer", "place"),
    [
        (OrderedDict(loss=torch.zeros(()), logits=TWOS), "logits of OrderedDict"),
        (Answer(torch.zeros(()), TWOS), "logits of Answer"),
        (Pair(TWOS, ONES), "logits of Pair"),
        ({"out": TWOS, "aux": ONES}, "out of dict"),
        ((TWOS, ONES), "0 of tuple"),
        ((torch.zeros(()), TWOS), "1 of tuple"),
        ({"hidden": (ONES, ONES), "last": TWOS, "ids": torch.zeros(3, dtype=int)}, "last of dict"),
    ],
)
def test_the_tensor_that_loss_and_metric_see(answer: Any, place: str) -> None:
    assert main_output(answer, ONES) is TWOS
    assert describe_output(answer, ONES) == place
    assert describe_output(TWOS, ONES) == ""


@pytest.mark.parametrize(
    ("answer", "held"),
    [
        ({"start": ONES, "end": TWOS}, r"dict \(start \(3, 2\), end \(3, 2\)\)"),
        ((torch.zeros(5, 2), (ONES, TWOS)), r"tuple \(0 \(5, 2\), 1 2 in a tuple\)"),
        ([{"boxes": ONES}], r"list \(0 dict\)"),
        (None, r"NoneType \(no tensor\)"),
    ],
)
def test_outputs_that_do_not_tell_are_named(answer: Any, held: str) -> None:
    with pytest.raises(UserError, match=f"the network returns {held} for 3 examples.*_hook"):
        main_output(answer, ONES)


def test_a_hook_chooses_among_outputs() -> None:
    class Both(nn.Module):
        def forward(self, x: Tensor) -> dict[str, Tensor]:
            return {"start": x, "end": 2 * x}

    model = Both()
    model.register_forward_hook(lambda model, inputs, output: output["end"])
    assert torch.equal(call_model(model, ONES), TWOS)


def test_rows_and_counts_of_structures() -> None:
    whole = torch.arange(5)
    inputs = {"x": ONES, "deeper": [TWOS, (ONES, None)], "of_all": whole, "flag": True}
    part = rows_of(inputs, slice(2))
    assert count_of(inputs) == 3
    assert count_of(part) == 2
    assert torch.equal(part["x"], ONES[:2])
    assert torch.equal(part["deeper"][0], TWOS[:2])
    assert part["deeper"][1][1] is None
    assert part["of_all"] is whole
    assert part["flag"] is True
    assert [tensor.shape[0] for tensor in tensors_of(part)] == [2, 2, 2, 5]
    with pytest.raises(UserError, match="no tensor with a row for each example: dict"):
        count_of({"flag": True})


def test_named_tuples_stay_named() -> None:
    changed = map_tensors(Pair(ONES, [ONES]), lambda x: 2 * x)
    assert type(changed) is Pair
    assert torch.equal(changed.aux[0], TWOS)
