"""Heads and neurons that leave together: found by role, resolved from any masks."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
import transformers
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from tests.support.nncf import PARAMS, movement, text
from tests.support.tiny_transformers import FAMILIES, SIZES, FusedBlock, bert
from ws_learner.compat.nncf.plan import build_movement_config
from ws_learner.compat.nncf.reader import parse_nncf
from ws_learner.config.learner import WeightSparseConfig
from ws_learner.core.errors import UserError
from ws_learner.pruning.layers.layer_plan import with_default_pattern
from ws_learner.pruning.layers.unit_groups import check_groups, find_groups, pattern_conflict
from ws_learner.pruning.layers.unresolved_groups import find_unresolved
from ws_learner.pruning.methods.gradual import GradualConfig
from ws_learner.pruning.methods.movement import MovementConfig
from ws_learner.pruning.patterns.pattern import parse_pattern
from ws_learner.pruning.patterns.structured import Member, UnitGroup, kept_units, resolve
from ws_learner.pruning.sparsifier import Sparsifier

BERT, _ = bert()
LAYER = "bert.encoder.layer.0"


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("attention", ["eager", "sdpa"])
def test_heads_and_neurons_are_found_whatever_computes_the_attention(
    family: str, attention: str
) -> None:
    model, _ = FAMILIES[family](attention)
    groups = find_groups(model)
    heads = [group for group in groups if group.kind == "heads"]
    neurons = [group for group in groups if group.kind == "neurons"]
    assert len(heads) == len(neurons) == (4 if family == "swin" else 2)
    for group in heads:
        axes = [member.axis for member in group.members]
        assert axes == ["outputs"] * 3 + ["inputs"]
    assert [len(group.members) for group in neurons] == [2] * len(neurons)
    names = [member.weight for group in groups for member in group.members]
    assert len(set(names)) == len(names)
    assert not any(word in name for name in names for word in ("pooler", "classifier", "patch"))


def test_a_fused_projection_holds_three_slices_of_each_head() -> None:
    (heads, neurons) = find_groups(FusedBlock())
    assert heads.units == 4
    assert [(m.axis, m.parts) for m in heads.members] == [("outputs", 3), ("inputs", 1)]
    assert neurons.units == 20


def oracle(
    group: UnitGroup, masks: dict[str, np.ndarray], biases: dict[str, str], rule: str
) -> list[bool]:
    """Unit by unit, in plain loops."""
    kept = []
    for unit in range(group.units):
        votes = []
        for member in group.members:
            mask = masks[member.weight]
            length = mask.shape[member.axis == "inputs"]
            width = length // member.parts // group.units
            places = [
                part * length // member.parts + unit * width + offset
                for part in range(member.parts)
                for offset in range(width)
            ]
            block = mask[places] if member.axis == "outputs" else mask[:, places]
            vote = bool(block.any())
            if rule == "any" and member.axis == "outputs" and member.weight in biases:
                vote |= bool(mask.any() and masks[biases[member.weight]][places].any())
            if rule == "any" or not (group.kind == "heads" and member.axis == "inputs"):
                votes.append(vote)
        kept.append(any(votes) if rule == "any" else all(votes))
    return kept


@settings(max_examples=60)
@given(
    seed=st.integers(0, 10_000),
    density=st.sampled_from([0.0, 0.003, 0.02, 0.1]),
    rule=st.sampled_from(["any", "all"]),
    fused=st.booleans(),
)
def test_random_masks_resolve_to_whole_units(
    seed: int, density: float, rule: str, fused: bool
) -> None:
    model = FusedBlock() if fused else BERT
    groups = find_groups(model)
    draw = np.random.default_rng(seed)
    weights = [member.weight for group in groups for member in group.members]
    biases = {name: name.removesuffix("weight") + "bias" for name in weights}
    masks = {
        name: draw.random(tuple(model.get_parameter(name).shape)) < density
        for name in [*weights, *biases.values()]
    }
    masks["classifier.weight"] = draw.random((3, 24)) < density
    tensors = {name: torch.from_numpy(mask.copy()) for name, mask in masks.items()}
    made = resolve(groups, tensors, biases=biases, rule=rule)  # type: ignore[arg-type]
    assert torch.equal(made["classifier.weight"], tensors["classifier.weight"])  # in no group
    for group in groups:
        wanted = oracle(group, masks, biases, rule)
        found = [member.any(made[member.weight], group.units).tolist() for member in group.members]
        full = [
            (~member.any(~made[m.weight], group.units)).tolist()
            for m in group.members
            for member in [m]
        ]
        assert all(flags == found[0] for flags in found)
        assert full == found  # nothing inside a kept unit is pruned
        if any(wanted):
            assert found[0] == wanted
        else:
            assert sum(found[0]) == 1  # the last one stays
        for member in group.members:
            assert torch.equal(made[biases[member.weight]], made[member.weight].any(1))


def test_an_empty_output_projection_has_no_say_under_the_rule_all() -> None:
    heads = next(group for group in find_groups(BERT) if group.kind == "heads")
    masks = {m.weight: torch.ones(24, 24, dtype=torch.bool) for m in heads.members}
    query, output = heads.members[0].weight, heads.members[-1].weight
    masks[output][:, :6] = False
    masks[query][6:12] = False
    assert kept_units(heads, masks, biases={}, rule="all").tolist() == [True, False, True, True]
    assert kept_units(heads, masks, biases={}, rule="any").all()


def test_groups_that_do_not_fit_are_errors_that_name_the_layer() -> None:
    model, groups = BERT, find_groups(BERT)
    with pytest.raises(UserError, match=r"layer\.0\.output\.dense\.weight is not"):
        check_groups(model, groups, [f"{LAYER}.intermediate.dense.weight"])
    with pytest.raises(UserError, match="no supported model is detected: Linear"):
        check_groups(nn.Linear(2, 2), (), ["weight"])
    head = Member(weight="classifier.weight", axis="inputs")
    own = UnitGroup(name="mine", kind="neurons", units=7, members=(head,))
    with pytest.raises(UserError, match="7 units do not divide"):
        check_groups(model, [own], ["classifier.weight"])
    assert "axis 0" in pattern_conflict(groups[0], {f"{LAYER}.attention.self.query.weight": 1})
    assert not pattern_conflict(groups[0], {f"{LAYER}.attention.self.query.weight": 0})


def deberta() -> nn.Module:
    config = transformers.DebertaV2Config(vocab_size=60, **SIZES)
    model: nn.Module = transformers.DebertaV2ForSequenceClassification(config)
    return model


def albert() -> nn.Module:
    sizes = SIZES | {"intermediate_size": 40}
    config = transformers.AlbertConfig(vocab_size=60, embedding_size=24, **sizes)
    model: nn.Module = transformers.AlbertForSequenceClassification(config)
    return model


def torchs_own() -> nn.Module:
    layer = nn.TransformerEncoderLayer(24, 4, dim_feedforward=32, batch_first=True)
    return nn.TransformerEncoder(layer, 2, enable_nested_tensor=False)


@pytest.mark.parametrize(
    ("make", "named"),
    [
        (deberta, r"layer\.0\.attention.*query_proj"),
        (albert, r"albert_layers\.0 \(.*ffn\.weight, .*ffn_output\.weight\)"),
        (torchs_own, r"layers\.0\.self_attn \(layers\.0\.self_attn\.out_proj"),
    ],
)
def test_heads_or_neurons_that_are_not_found_are_an_error_that_names_them(
    make: Callable[[], nn.Module], named: str
) -> None:
    model = make()
    layers = [
        f"{name}.weight"
        for name, module in model.named_modules()
        if isinstance(module, nn.Linear) and not name.startswith(("classifier", "pooler"))
    ]
    groups = find_groups(model)
    assert groups  # the others are
    with pytest.raises(UserError, match=f"{named}.*groups of your own"):
        check_groups(model, groups, layers)
    known = [member.weight for group in groups for member in group.members]
    assert check_groups(model, groups, known) == groups


@pytest.mark.parametrize("family", FAMILIES)
def test_of_known_families_nothing_is_unresolved(family: str) -> None:
    model, _ = FAMILIES[family]()
    linear = (f"{n}.weight" for n, m in model.named_modules() if isinstance(m, nn.Linear))
    assert not find_unresolved(model, find_groups(model), linear)


def test_groups_of_the_users_own_take_the_place_of_those_that_are_not_found() -> None:
    model = deberta()
    own = list(find_groups(model))
    for number in range(2):
        at = f"deberta.encoder.layer.{number}.attention"
        rows = (f"{at}.self.{part}_proj.weight" for part in ("query", "key", "value"))
        members = [Member(weight=name, axis="outputs") for name in rows]
        members.append(Member(weight=f"{at}.output.dense.weight", axis="inputs"))
        own.append(UnitGroup(name=f"{at}.self", kind="heads", units=4, members=tuple(members)))
    params = PARAMS | {"enable_structured_masking": True}
    conf = parse_nncf(text(movement(params=params, ignored_scopes=["{re}pooler|classifier"])))
    with pytest.raises(UserError, match="groups of your own"):
        build_movement_config(conf, model, steps_per_epoch=5, lrn_rate=0.1)
    config, names = build_movement_config(
        conf, model, steps_per_epoch=5, lrn_rate=0.1, groups=tuple(own)
    )
    assert set(config.groups) == set(own)
    assert len(names) == 12


@pytest.mark.parametrize("config", [MovementConfig, GradualConfig])
@pytest.mark.parametrize("fused", [False, True])
def test_the_pattern_units_prunes_whole_heads_and_neurons_to_a_target(
    config: type[GradualConfig], fused: bool
) -> None:
    model, inputs = (FusedBlock(), {"x": torch.randn(4, 6, 24)}) if fused else bert()
    groups = find_groups(model)
    names = [member.weight for group in groups for member in group.members]
    settings = config(
        pattern=parse_pattern("units"), iter_ratio_beg=0.0, iter_ratio_end=0.8, mask_update_step=2
    )
    sparsifier = Sparsifier(model, settings, ratios=dict.fromkeys(names, 0.5), total_steps=10)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)
    sparsifier.attach(optimizer)
    for _ in range(10):
        optimizer.zero_grad()
        output = model(**inputs)
        (output if fused else output.logits).square().mean().backward()
        optimizer.step()
    sparsifier.finalize()
    for group in groups:
        flags: list[Tensor] = [
            member.any(model.get_parameter(member.weight) != 0, group.units)
            for member in group.members
        ]
        assert all(torch.equal(flag, flags[0]) for flag in flags)
        assert int(flags[0].sum()) == group.units // 2


@pytest.mark.parametrize(
    ("asked", "heads", "neurons"),
    [((0.25, 0.75, 0.5, 0.5), {1, 2}, {10}), ((0.6, 0.6, 0.9, 0.1), {2, 3}, {10})],
)
def test_unequal_ratios_within_a_group_are_its_members_mean_and_nobody_elses(
    asked: tuple[float, ...], heads: set[int], neurons: set[int]
) -> None:
    model = FusedBlock()  # 4 heads, 20 neurons
    names = ["attn.qkv.weight", "attn.proj.weight", "mlp.fc1.weight", "mlp.fc2.weight"]
    sizes = {name: model.get_parameter(name).numel() for name in names}
    zeros = {name: int(ratio * sizes[name]) for name, ratio in zip(names, asked, strict=True)}
    found = GradualConfig(pattern=parse_pattern("units")).feasible(model, zeros)
    shares = [found[name] / sizes[name] for name in names]
    assert shares[0] == shares[1]
    assert shares[2] == shares[3]
    assert round(4 * shares[0], 9) in heads
    assert round(20 * shares[2], 9) in neurons


@pytest.mark.parametrize(
    ("settings", "pattern"),
    [
        ({"ws_location": "attention,ff"}, "units"),
        ({"ws_location": "ff"}, "units"),
        ({"ws_location": "ff,q,k"}, "unstructured"),  # no whole head
        ({}, "unstructured"),
        ({"ws_location": "attention,ff", "ws_pattern": "unstructured"}, "unstructured"),
        ({"ws_location": "attention,ff", "ws_pattern": "4x4"}, "4x4"),
        ({"ws_location": "attention,ff", "ws_method": "gradual"}, "unstructured"),
    ],
)
def test_movement_in_heads_and_neurons_takes_them_whole_by_default(
    settings: dict[str, Any], pattern: str
) -> None:
    config = WeightSparseConfig(**{"ws_method": "movement", **settings})
    assert with_default_pattern(config, BERT).pattern_spelling == pattern
    if not config.ws_pattern:
        alone = nn.Sequential(nn.Linear(4, 4))
        assert with_default_pattern(config, alone).pattern_spelling == "unstructured"


@pytest.mark.parametrize("config", [MovementConfig, GradualConfig])
def test_blocks_in_attentions_go_with_whole_neurons_elsewhere(
    config: type[GradualConfig],
) -> None:
    model, inputs = bert()
    names = [member.weight for group in find_groups(model) for member in group.members]
    settings = config(
        pattern=parse_pattern("units@ff+4x4@attention"),
        **{"iter_ratio_beg": 0.0, "iter_ratio_end": 0.8, "mask_update_step": 2},
    )
    sparsifier = Sparsifier(model, settings, ratios=dict.fromkeys(names, 0.5), total_steps=10)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)
    sparsifier.attach(optimizer)
    for _ in range(10):
        optimizer.zero_grad()
        model(**inputs).logits.square().mean().backward()
        optimizer.step()
    sparsifier.finalize()
    for group in find_groups(model):
        weights = [model.get_parameter(member.weight) != 0 for member in group.members]
        if group.kind == "neurons":
            rows, columns = weights[0].any(1), weights[1].any(0)
            assert torch.equal(rows, columns)
            assert int(rows.sum()) == 10
            continue
        for kept in weights:
            blocks = kept.reshape(6, 4, 6, 4).transpose(1, 2).flatten(2)
            assert torch.equal(blocks.any(2), blocks.all(2))
            assert int(blocks.any(2).sum()) == 18
