"""LPOT's YAML: the manual's file word for word, and every kind of mistake at once."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from tests.support.lpot import SEED_YAML
from ws_learner.compat.lpot.plan import build_plans, parse_lpot_pattern
from ws_learner.compat.lpot.reader import is_lpot, parse_lpot
from ws_learner.compat.lpot.schema import LpotConf, Pruner
from ws_learner.core.errors import UserError


def pruners(text: str) -> str:
    """A file with these pruners, from its fifth line on."""
    head = "pruning:\n  approach:\n    weight_compression:\n      pruners:\n"
    return head + "".join(f"        {line}\n" for line in text.splitlines())


def test_the_seeds_file_word_for_word() -> None:
    assert is_lpot(SEED_YAML)
    conf = parse_lpot(SEED_YAML)
    train = conf.train
    assert train is not None
    assert train.loader is not None
    assert (train.start_epoch, train.end_epoch, train.iteration) == (0, 10, 100)
    assert train.optimizer.name == "SGD"
    assert (train.optimizer.learning_rate, train.optimizer.weight_decay) == (0.1, 0.0004)
    assert (train.optimizer.momentum, train.optimizer.nesterov) == (0.9, False)
    assert train.criterion.reduction == "none"
    assert (train.loader.dataset, train.loader.batch_size) == ("ImageFolder", 256)
    assert train.loader.root == Path("/path/to/imagenet/train")
    assert [name for name, _ in train.loader.transforms] == [
        "RandomResizedCrop",
        "RandomHorizontalFlip",
        "ToTensor",
        "Normalize",
    ]
    assert dict(train.loader.transforms)["Normalize"]["mean"] == (0.485, 0.456, 0.406)
    assert (conf.initial_sparsity, conf.target_sparsity) == (0.0, 0.3)
    (pruner,) = conf.pruners
    assert pruner.names == ("layer1.0.conv1.weight",)
    assert (pruner.target_sparsity, pruner.update_frequency) == (0.97, 0.1)


def test_defaults_are_lpots() -> None:
    conf = parse_lpot("pruning:\n  approach:\n    weight_compression: {}\n")
    assert (conf.start_epoch, conf.end_epoch) == (0, 4)
    assert (conf.initial_sparsity, conf.target_sparsity) == (0.0, 0.97)
    assert len(conf.pruners) == 1


def test_everything_wrong_is_told_at_once_with_its_line() -> None:
    text = """pruning:
  trian:
    end_epoch: 3
  train:
    end_epoch: ten
    optimizer:
      Sgd:
        learning_rate: 0.1
    criterion:
      CrossEntropyLoss:
        reduction: avg
    dataloader:
      batch_size: 2.5
      dataset:
        ImageFolder:
          rot: /data
      transform:
        RandomResizeCrop:
          size: 224
        Normalize:
          mean: 0.5
          std: [1, 1, 1]
  approach:
    weight_compression:
      target_sparsity: 1.5
      pruners:
        - !Pruner
            prune_type: basic_magnitud
            start_epoch: 4
            end_epoch: 2
            name: ['a.weight']
            method: per_channel
"""
    with pytest.raises(UserError) as caught:
        parse_lpot(text)
    wanted = [
        (2, "unknown key 'trian'; did you mean train?"),
        (5, "end_epoch 'ten': must be a whole number"),
        (7, "did you mean SGD"),
        (11, "reduction 'avg': allowed are None, sum, mean"),
        (13, "batch_size 2.5: must be a whole number"),
        (16, "unknown key 'rot'; did you mean root?"),
        (16, "root is missing"),
        (18, "unknown key 'RandomResizeCrop'; did you mean RandomResizedCrop?"),
        (21, "mean 0.5: must be one number per channel"),
        (25, "target_sparsity 1.5: must be a share in [0, 1)"),
        (28, "prune_type 'basic_magnitud'"),
        (27, "start_epoch 4 is above end_epoch 2"),
        (31, "unknown key 'name'; did you mean names?"),
        (32, "per_tensor"),
    ]
    message = str(caught.value)
    for line, part in wanted:
        assert any(
            row.strip().startswith(f"line {line}:") and part in row for row in message.splitlines()
        ), (line, part, message)
    assert "14 problems" in message


@pytest.mark.parametrize(
    ("optimizer", "wanted"),
    [
        ("SGD: {learning_rate: 0.1, momentum: -1}", "momentum -1: must be a number from 0"),
        ("SGD: {learning_rate: 0.1, weight_decay: -1}", "weight_decay -1: must be a number from 0"),
        ("SGD: {learning_rate: 0.1, nesterov: True}", "nesterov True: needs a momentum above 0"),
        ("SGD: {learning_rate: .nan}", "learning_rate nan: must be a number above 0"),
        ("Adam: {beta_1: 2}", "beta_1 2: must be a number in [0, 1)"),
        ("AdamW: {weight_decay: .inf}", "weight_decay inf: must be a number from 0"),
    ],
)
def test_numbers_out_of_range_are_told_together(optimizer: str, wanted: str) -> None:
    text = f"""pruning:
  train:
    optimizer:
      {optimizer}
    criterion: {{CrossEntropyLoss: {{}}}}
    frequency: banana
    dataloader:
      shuffle: banana
      dataset: {{CIFAR10: {{}}}}
      transform:
        CenterCrop: {{size: 0}}
        Normalize: {{mean: [0, 0, 0], std: [0, 0, 0]}}
  approach:
    weight_compression:
      pruners:
        - !Pruner {{pattern: banana}}
        - !Pruner {{pattern: "4:4"}}
        - !Pruner {{parameters: {{pattern: 1by2}}}}
"""
    with pytest.raises(UserError) as caught:
        parse_lpot(text)
    lines = str(caught.value).splitlines()
    assert lines[0].endswith("8 problems")
    told = {int(line.split()[1].rstrip(":")): line for line in lines[1:]}
    assert wanted in told[4]
    assert set(told) == {4, 6, 8, 11, 12, 16, 17, 18}
    assert "std" in told[12]
    assert "pattern 'banana': must be a pattern" in told[16]


def test_a_spread_for_one_channel_is_told() -> None:
    text = """pruning:
  train:
    optimizer: {SGD: {learning_rate: 0.1}}
    criterion: {CrossEntropyLoss: {}}
    dataloader:
      dataset: {CIFAR10: {}}
      transform:
        Normalize: {mean: [0, 0, 0], std: [0.2]}
"""
    with pytest.raises(UserError, match=r"line 8: std \[0.2\]: must be one number per channel"):
        parse_lpot(text)


def test_a_pattern_that_does_not_divide_names_the_tensor(
    capsys: pytest.CaptureFixture[str],
) -> None:
    model = nn.Sequential(nn.Linear(8, 8), nn.Linear(10, 10))
    conf = LpotConf(target_sparsity=0.5, pruners=(Pruner(names=["?.weight"], pattern="4x4"),))
    build_plans(conf, model)
    (line,) = capsys.readouterr().err.splitlines()
    assert "the pattern 4x4 does not divide 1.weight of shape (10, 10)" in line


def test_activation_compression_is_refused_in_a_sentence() -> None:
    text = "pruning:\n  approach:\n    activation_compression: {target_sparsity: 0.5}\n"
    with pytest.raises(UserError, match="line 3: activation_compression: activations are not"):
        parse_lpot(text)


@pytest.mark.parametrize(
    "text",
    [
        "pruning: !!python/object/apply:os.system ['true']\n",
        "pruning: !Other {a: 1}\n",
        "pruning:\n  - [\n",
        "pruning:\n  train: {end_epoch: 1, end_epoch: 2}\n",
    ],
)
def test_no_tag_runs_code_and_broken_yaml_is_told(text: str) -> None:
    with pytest.raises(UserError, match="line "):
        parse_lpot(text)


def test_a_local_value_wins_by_being_there() -> None:
    model = nn.Sequential(nn.Linear(8, 8), nn.Linear(8, 8))
    conf = LpotConf(
        start_epoch=2,
        initial_sparsity=0.1,
        target_sparsity=0.5,
        pruners=(
            Pruner(start_epoch=0, initial_sparsity=0.0, target_sparsity=0.0, names=["0.weight"]),
            Pruner(names=["1.weight"]),
        ),
    )
    local, shared = build_plans(conf, model)
    assert (local.start_epoch, local.initial, local.target) == (0, 0.0, 0.0)
    assert (shared.start_epoch, shared.initial, shared.target) == (2, 0.1, 0.5)


def test_no_names_are_all_weights_and_patterns_and_modules_resolve() -> None:
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Flatten(), nn.Linear(4, 2))
    every = LpotConf(pruners=(Pruner(names=[]),))
    assert build_plans(every, model)[0].names == ("0.weight", "3.weight")
    for spelling in (["3.weight", "0"], ["?.weight"]):
        some = LpotConf(pruners=(Pruner(names=spelling),))
        assert set(build_plans(some, model)[0].names) == {"0.weight", "3.weight"}
    with pytest.raises(UserError, match=r"'3.wieght' is no parameter.*did you mean '3.weight'"):
        build_plans(LpotConf(pruners=(Pruner(names=["3.wieght"]),)), model)


@pytest.mark.parametrize(
    ("theirs", "ours"),
    [
        ("1:4", "3:4"),  # LPOT counts the zeros, we count what is kept
        ("3:4", "1:4"),
        ("2:4", "2:4"),
        ("2in4", "2:4"),
        ("tile_pattern_4x1", "4x1"),
        ("1x1", "unstructured"),
        ("***2***x1", "2x1"),
        ("4x***16***", "16x4"),  # DLRM in the table of validated models: inputs first
        ("1xchannel", "1xchannel"),
    ],
)
def test_pattern_spellings(theirs: str, ours: str) -> None:
    assert str(parse_lpot_pattern(theirs)) == ours


def test_a_target_beyond_the_pattern_is_an_error() -> None:
    text = pruners("- !Pruner\n    pattern: '2:4'\n    target_sparsity: 0.9\n    names: ['weight']")
    with pytest.raises(UserError, match=r"line 5.*2:4 allows at most 0\.5"):
        build_plans(parse_lpot(text), nn.Linear(16, 16))
    fine = pruners("- !Pruner\n    pattern: '1:4'\n    target_sparsity: 0.25")
    assert build_plans(parse_lpot(fine), nn.Linear(16, 16))[0].target == 0.25


def test_group_lasso_needs_alpha() -> None:
    with pytest.raises(UserError, match="line 5: group_lasso needs parameters"):
        parse_lpot(pruners("- !Pruner\n    prune_type: group_lasso"))
    conf = parse_lpot(
        pruners(
            "- !Pruner\n    prune_type: grouplasso\n    parameters: {alpha: 6e-3, pattern: 2x1}"
        )
    )
    (plan,) = build_plans(conf, nn.Linear(4, 4))
    assert (plan.alpha, str(plan.pattern)) == (0.006, "2x1")


@given(
    formula=st.sampled_from(["old", "new"]),
    place=st.sampled_from(["global", "local"]),
    epochs=st.tuples(st.integers(0, 3), st.integers(0, 8)),
    every=st.integers(1, 4),
    shares=st.tuples(st.integers(0, 99), st.integers(0, 99)),
)
def test_both_historical_formulas_from_the_file(
    formula: str, place: str, epochs: tuple[int, int], every: int, shares: tuple[int, int]
) -> None:
    (start, length), (low, high) = epochs, sorted(shares)
    chosen = {"global": f"formula: {formula}", "local": "frequency: 1"}[place]
    own = {"global": "names: []", "local": f"formula: {formula}"}[place]
    conf = parse_lpot(
        "pruning:\n  approach:\n    weight_compression:\n"
        f"      {chosen}\n      pruners:\n        - !Pruner\n            {own}\n"
        f"            start_epoch: {start}\n            end_epoch: {start + length}\n"
        f"            initial_sparsity: {low / 100}\n            target_sparsity: {high / 100}\n"
        f"            update_frequency: {every}\n"
    )
    (plan,) = build_plans(conf, nn.Linear(20, 20))
    late = int(formula == "new")
    i, t = np.float64(low / 100), np.float64(high / 100)
    for epoch in range(start + length + 3):
        if epoch < start:
            wanted = np.float64(0)
        elif epoch >= start + length:
            wanted = t
        else:
            done = np.floor_divide(epoch - start + late, every) * every
            wanted = i + (t - i) * np.minimum(done / np.float64(length + late), 1.0)
        assert plan.sparsity(epoch, 0, None) == pytest.approx(float(wanted), abs=1e-12)


def test_a_formula_that_is_none() -> None:
    with pytest.raises(UserError, match=r"line 4: formula 'newer': must be new .* or old"):
        parse_lpot("pruning:\n  approach:\n    weight_compression:\n      formula: newer\n")


@pytest.mark.parametrize(
    ("text", "line"),
    [
        (
            "pruning: {}\n",
            "all weights are pruned to LPOT's default target, 0.97",
        ),
        (
            "pruning:\n  approach:\n    weight_compression:\n      target_sparsity:\n"
            "      start_epoch: 0\n",
            "line 4: target_sparsity is empty: LPOT's default, 0.97, is used",
        ),
        (
            pruners("- !Pruner\n    parameters: {alpha: 0.006}"),
            "alpha 0.006 has no effect without prune_type: group_lasso",
        ),
    ],
)
def test_what_has_no_effect_or_is_left_open_is_said(
    text: str, line: str, capsys: pytest.CaptureFixture[str]
) -> None:
    parse_lpot(text)
    assert line in capsys.readouterr().err
