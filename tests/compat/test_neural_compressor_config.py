"""Neural Compressor 2.x in Python: its documented example, its schedules, its mistakes."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from tests.support.small_bert import SmallBert
from ws_learner import UserError, WeightPruningConfig, prepare_compression, prepare_pruning


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.layer1 = nn.Sequential(nn.Conv2d(3, 8, 3), nn.ReLU(), nn.Conv2d(8, 8, 3))
        self.layer2 = nn.Linear(8, 16)
        self.layer3 = nn.Linear(16, 12)
        self.classifier = nn.Linear(12, 4)

    def forward(self, x: Tensor) -> Tensor:
        x = torch.relu(self.layer2(self.layer1(x).mean((2, 3))))
        result: Tensor = self.classifier(torch.relu(self.layer3(x)))
        return result


def batch() -> Tensor:
    return torch.randn(5, 3, 8, 8)


def zeros_of(model: nn.Module) -> dict[str, int]:
    return {n: int((p == 0).sum()) for n, p in model.named_parameters() if p.ndim > 1}


def sgd(model: nn.Module) -> torch.optim.Optimizer:
    return torch.optim.SGD(model.parameters(), lr=0.05, momentum=0.9, weight_decay=0.01)


def loop(
    model: nn.Module, optimizer: torch.optim.Optimizer, steps: int, inputs: Any = batch
) -> None:
    for _ in range(steps):
        model(inputs()).square().mean().backward()
        optimizer.step()
        model.zero_grad()


def test_the_documented_example(capsys: pytest.CaptureFixture[str]) -> None:
    pruning_configs = [
        {"op_names": ["layer1.*"], "pattern": "4x1"},
        {"op_names": ["layer2.*"], "pattern": "1x1", "target_sparsity": 0.5},
        {"op_names": ["layer3.*"], "pruning_type": "snip_momentum_progressive"},
    ]
    config = WeightPruningConfig(
        pruning_configs, target_sparsity=0.75, excluded_op_names=["classifier"], end_step=10
    )
    model = Net()
    parameters = [id(p) for p in model.parameters()]
    compression_manager = prepare_compression(model, config)
    optimizer = sgd(model)
    lr_scheduler = torch.optim.lr_scheduler.StepLR(optimizer, 100)
    compression_manager.callbacks.on_train_begin()
    for _ in range(3):
        model.train()
        for step in range(4):
            compression_manager.callbacks.on_step_begin(step)
            loss = model(batch()).square().mean()
            loss.backward()
            compression_manager.callbacks.on_before_optimizer_step()
            optimizer.step()
            compression_manager.callbacks.on_after_optimizer_step()
            lr_scheduler.step()
            model.zero_grad()
    compression_manager.callbacks.on_train_end()
    zeros = zeros_of(model)
    assert zeros["layer1.0.weight"] + zeros["layer1.2.weight"] == round(0.75 * (216 + 576) / 4) * 4
    assert (zeros["layer2.weight"], zeros["layer3.weight"]) == (64, 144)
    assert zeros["classifier.weight"] == 0
    blocks = model.layer3.weight.detach().reshape(3, 4, 16) == 0
    assert torch.equal(blocks.all(1), blocks.any(1))
    assert [id(p) for p in model.parameters()] == parameters
    assert "snip_momentum is used" in capsys.readouterr().err
    model.layer2.weight.data.fill_(1.0)
    loop(model, optimizer, 1)  # nobody follows the optimizer any more
    assert zeros_of(model)["layer2.weight"] == 0


@pytest.mark.parametrize("accumulation", [1, 3])
def test_a_loop_without_any_hook(accumulation: int) -> None:
    model, steps = Net(), 8
    optimizer = sgd(model)
    config = WeightPruningConfig(target_sparsity=0.6, pattern="1x1", start_step=2, end_step=6)
    hooks = prepare_pruning(model, config, optimizer)
    for step in range(steps * accumulation):
        (model(batch()).square().mean() / accumulation).backward()
        if (step + 1) % accumulation == 0:
            optimizer.step()
            optimizer.zero_grad()
    assert hooks.sparsifiers[0].step == steps
    hooks.on_train_end()
    zeros = zeros_of(model)
    assert zeros.pop("classifier.weight") == 0  # the last layer stays dense by itself
    sizes = {name: model.get_parameter(name).numel() for name in zeros}
    assert sum(zeros.values()) == round(0.6 * sum(sizes.values()))
    assert len({round(zeros[n] / sizes[n], 2) for n in zeros}) > 1  # the scope is global
    assert all(zeros[name] <= 0.98 * sizes[name] + 1 for name in zeros)


def curve(kind: str, target: float, initial: float, done: np.ndarray) -> np.ndarray:
    """The published formulas, c / n = `done`."""
    if kind == "exp":
        return 1 - (1 - initial) * ((1 - target) / (1 - initial)) ** done
    shapes = {"linear": done, "cube": done**3, "cos": 1 - np.cos(np.pi * done / 2)}
    result: np.ndarray = initial + (target - initial) * shapes[kind]
    return result


@pytest.mark.parametrize("kind", ["exp", "linear", "cube", "cos"])
@pytest.mark.parametrize(("start", "end", "every"), [(0, 12, 1), (3, 12, 4), (2, 12, 3), (5, 5, 2)])
def test_the_sparsity_of_every_step(kind: str, start: int, end: int, every: int) -> None:
    model = nn.Sequential(nn.Linear(40, 50), nn.Tanh())
    optimizer = sgd(model)
    config = WeightPruningConfig(
        pruning_type="magnitude",
        pattern="1x1",
        pruning_scope="local",
        target_sparsity=0.8,
        start_step=start,
        end_step=end,
        pruning_frequency=every,
        sparsity_decay_type=kind,
    )
    hooks = prepare_pruning(model, config, optimizer)
    updates = (end - start) // every
    for step in range(1, 16):
        loop(model, optimizer, 1, lambda: torch.randn(4, 40))
        count = min(max(step - start, 0) // every, updates)
        share = curve(kind, 0.8, 0.0, np.float64(count / updates)) if updates else 0.8
        wanted = 0.0 if step < start else share
        assert abs(zeros_of(model)["0.weight"] - wanted * 2000) <= 0.5 + 1e-9
    hooks.on_train_end()
    assert zeros_of(model)["0.weight"] == 1600


@pytest.mark.parametrize(
    ("settings", "zeros"),
    [
        ({"pattern": "2:4", "target_sparsity": 0.5}, 24 * 40),
        ({"pattern": "channelx1", "target_sparsity": 0.5, "pruning_type": "gradient"}, 24 * 40),
        ({"pattern": "1xchannel", "pruning_type": "snip", "criterion_reduce_type": "max"}, 1728),
        ({"reg_type": "group_lasso", "parameters": {"reg_coeff": 0.01}}, 1728),
    ],
)
def test_patterns_and_types(settings: dict[str, Any], zeros: int) -> None:
    torch.manual_seed(0)
    model = SmallBert(layers=1)
    config = WeightPruningConfig(
        **{"target_sparsity": 0.9, **settings},
        op_names=["intermediate", r"layers.0.output$"],
        end_step=4,
    )
    optimizer = sgd(model)
    hooks = prepare_pruning(model, config, optimizer)
    loop(model, optimizer, 6, lambda: torch.randint(50, (4, 6)))
    hooks.on_train_end()
    assert abs(sum(zeros_of(model).values()) - zeros) <= 24


def test_heads_over_all_attentions() -> None:
    torch.manual_seed(0)
    model = SmallBert(layers=3)
    config = WeightPruningConfig(pattern="mha", target_sparsity=0.5, end_step=4)
    optimizer = sgd(model)
    hooks = prepare_pruning(model, config, optimizer)
    loop(model, optimizer, 6, lambda: torch.randint(50, (4, 6)))
    hooks.on_train_end()
    heads = []
    for layer in model.layers:
        attention = layer.attention
        parts = [attention.query, attention.key, attention.value]
        dead = [(part.weight == 0).reshape(4, -1).all(1) for part in parts]
        dead.append((attention.output.weight == 0).T.reshape(4, -1).all(1))
        assert all(torch.equal(other, dead[0]) for other in dead)
        heads.append(int(dead[0].sum()))
    assert sum(heads) == 6
    assert sum(zeros_of(model).values()) == 6 * 4 * 6 * 24


def test_a_lock_and_a_resumed_checkpoint() -> None:
    model = nn.Sequential(nn.Linear(16, 16), nn.Tanh())
    model[0].weight.data[:, ::2] = 0
    zeros = model[0].weight.detach() == 0
    optimizer = sgd(model)
    hooks = prepare_pruning(model, WeightPruningConfig(pruning_type="pattern_lock"), optimizer)
    loop(model, optimizer, 4, lambda: torch.randn(4, 16))
    hooks.on_train_end()
    assert torch.equal(model[0].weight.detach() == 0, zeros)
    config = WeightPruningConfig(
        target_sparsity=0.75, start_step=2, end_step=6, resume_from_pruned_checkpoint=True
    )
    hooks, least = prepare_pruning(model, config, optimizer), []
    for _ in range(8):
        loop(model, optimizer, 1, lambda: torch.randn(4, 16))
        assert (model[0].weight.detach() == 0)[zeros].all()
        least.append(zeros_of(model)["0.weight"])
    hooks.on_train_end()
    assert least == sorted(least)
    assert (least[0], least[-1]) == (128, 192)


def test_preparing_twice_is_harmless(tmp_path: Any) -> None:
    model = Net()
    optimizer = sgd(model)
    config = WeightPruningConfig(target_sparsity=0.5, end_step=4)
    first, second = (prepare_pruning(model, config, optimizer) for _ in range(2))
    loop(model, optimizer, 6)
    torch.save(model.state_dict(), tmp_path / "m.pt")
    assert list(torch.load(tmp_path / "m.pt", weights_only=True)) == list(Net().state_dict())
    for hooks in (first, second):
        hooks.on_train_end()
    total = 216 + 576 + 128 + 192
    assert sum(zeros_of(model).values()) == total // 2


def test_all_mistakes_at_once() -> None:
    with pytest.raises(UserError) as caught:
        WeightPruningConfig(
            [{"op_name": ["a"], "pattern": "2:4", "target_sparsity": 0.6}, {"op_names": "layer1"}],
            target_sparsty=0.9,
            pruning_type="retrain_free",
            start_step=9,
            end_step=3,
            max_sparsity_ratio_per_op=1.5,
            excluded_op_names=["*"],
            reg_type="group_lasso",
            low_memory_usage=True,
        )
    message = str(caught.value)
    for part in (
        "did you mean target_sparsity?",
        "pruning_type 'retrain_free': must be one of magnitude",
        "start_step 9: is above end_step 3",
        "max_sparsity_ratio_per_op 1.5: must be a share",
        "excluded_op_names ['*']: must be a list of regular expressions",
        "pruning_configs[0]: unknown setting 'op_name'; did you mean op_names?",
        "pruning_configs[0]: target_sparsity 0.6: the pattern 2:4 allows 0.5 at most",
        "pruning_configs[1]: op_names 'layer1': must be a list",
        "reg_type group_lasso: needs parameters",
    ):
        assert part in message, part


def test_what_does_not_fit_the_network() -> None:
    model = Net()
    with pytest.raises(UserError, match=r"'layerx' matches none of the 5 layers; did you mean"):
        prepare_pruning(model, WeightPruningConfig(op_names=["layerx"]))
    with pytest.raises(UserError, match="leave no layer"):
        prepare_pruning(model, WeightPruningConfig(excluded_op_names=[".*"]))
    twice = WeightPruningConfig([{"op_names": ["layer2"]}, {"op_names": ["layer"]}])
    with pytest.raises(UserError, match=r"layer2\.weight: pruned by pruning_configs\[0\]"):
        prepare_pruning(model, twice)
    with pytest.raises(UserError, match="only pytorch"):
        prepare_pruning(model, WeightPruningConfig(), framework="keras")
    with pytest.raises(UserError, match="must be a WeightPruningConfig"):
        prepare_pruning(model, {})  # type: ignore[arg-type]
    with pytest.raises(UserError, match="none of 5 layers has a zero"):
        prepare_pruning(model, WeightPruningConfig(pruning_type="pattern_lock"))


def test_a_training_that_ends_early_or_never_begins() -> None:
    model = Net()
    hooks = prepare_pruning(model, WeightPruningConfig(end_step=5, target_sparsity=0.5))
    with pytest.raises(UserError, match="no step of an optimizer"):
        hooks.on_train_end()
    hooks.on_step_begin(0)
    optimizer = sgd(model)
    loop(model, optimizer, 4)
    with pytest.raises(UserError, match="after 4 optimizer steps, before end_step 5"):
        hooks.on_train_end()


@pytest.mark.parametrize(
    ("settings", "line"),
    [
        ({"target_sparsity": 0.9, "max_sparsity_ratio_per_op": 0.5}, "allows 0.5"),
        ({"pruning_frequency": 50}, "all weights go at once"),
        ({"excluded_op_names": ["clasifier"]}, "'clasifier' matches no module"),
    ],
)
def test_what_is_not_done_as_asked_is_said(
    settings: dict[str, Any], line: str, capfd: pytest.CaptureFixture[str]
) -> None:
    model = nn.Sequential(nn.Linear(8, 8), nn.Tanh(), nn.Linear(8, 8))
    base = {"target_sparsity": 0.5, "pattern": "1x1", "end_step": 10}
    prepare_pruning(model, WeightPruningConfig(**base))
    assert line not in capfd.readouterr().err
    prepare_pruning(model, WeightPruningConfig(**(base | settings)))
    assert line in capfd.readouterr().err
