"""`from ws_learner import Pruning, common`: the manual's program, and every hook's name."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import nn

from ws_learner import Pruning, UserError
from ws_learner.compat.lpot import common
from ws_learner.compat.lpot.schema import LpotConf, Pruner
from ws_learner.core.weights import load_state

CONF = """pruning:
  approach:
    weight_compression:
      target_sparsity: 0.5
      start_epoch: 0
      end_epoch: 2
      pruners:
        - !Pruner
            names: ['0.weight']
            target_sparsity: 0.75
        - !Pruner
            prune_type: group_lasso
            parameters: {alpha: 0.01, pattern: tile_pattern_4x1}
            names: ['2.weight']
"""


class Bert(nn.Sequential):
    """Takes and gives what the manual's loop expects of a transformer."""

    def __init__(self) -> None:
        torch.manual_seed(0)
        super().__init__(nn.Linear(8, 16), nn.Tanh(), nn.Linear(16, 4))

    def forward(self, input_ids: Any, attention_mask: Any, labels: Any) -> Any:
        logits = super().forward(input_ids * attention_mask)
        return nn.functional.cross_entropy(logits, labels), logits


def batches(count: int = 6) -> list[tuple[torch.Tensor, ...]]:
    torch.manual_seed(1)
    return [
        (torch.randn(5, 8), torch.ones(5, 8), torch.zeros(5), torch.randint(4, (5,)))
        for _ in range(count)
    ]


def seed_program(config: Path, args: Any, model: nn.Module, loader: Any) -> tuple[Any, Any]:
    """The two programs of LPOT's manual, their import line apart; `...` is filled in."""
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
    scheduler = torch.optim.lr_scheduler.StepLR(optimizer, 100)

    def train_func(model: nn.Module) -> None:
        for epoch in range(int(args.num_train_epochs)):
            model.train()
            prune.on_epoch_begin(epoch)
            for step, batch in enumerate(loader):
                prune.on_batch_begin(step)
                batch = tuple(t.to(args.device) for t in batch)
                inputs = {
                    "input_ids": batch[0],
                    "attention_mask": batch[1],
                    "labels": batch[3],
                }
                outputs = model(**inputs)
                loss = outputs[0]
                if args.gradient_accumulation_steps > 1:
                    loss = loss / args.gradient_accumulation_steps
                loss.backward()
                torch.nn.utils.clip_grad_norm_(model.parameters(), args.max_grad_norm)
                if (step + 1) % args.gradient_accumulation_steps == 0:
                    optimizer.step()
                    scheduler.step()
                    model.zero_grad()
                prune.on_batch_end()

    def eval_func(model: nn.Module) -> float:
        model.eval()
        return sum(model(b[0], b[1], b[3])[0].item() for b in batches())

    prune = Pruning(str(config))
    prune.model = common.Model(model)
    prune.train_dataloader = loader
    prune.pruning_func = train_func
    prune.eval_dataloader = loader
    prune.eval_func = eval_func
    return prune(), prune


@pytest.fixture
def config(tmp_path: Path) -> Path:
    path = tmp_path / "conf.yaml"
    path.write_text(CONF)
    return path


@pytest.mark.parametrize("accumulation", [1, 3])
def test_the_seeds_program(config: Path, tmp_path: Path, accumulation: int) -> None:
    args = SimpleNamespace(
        num_train_epochs=4,
        device="cpu",
        gradient_accumulation_steps=accumulation,
        max_grad_norm=1.0,
    )
    network = Bert()
    parameters = dict(network.named_parameters())
    model, prune = seed_program(config, args, network, batches())
    assert model.model is network
    assert all(model.model.get_parameter(name) is p for name, p in parameters.items())
    assert int((network[0].weight == 0).sum()) == 96
    blocks = network[2].weight.detach().reshape(1, 4, 16).eq(0)
    assert int(blocks.all(1).sum()) == 8
    assert int(blocks.sum()) == 32
    assert prune.last_score != prune.baseline_score
    model.save(tmp_path / "out")
    saved = load_state(tmp_path / "out" / "model.safetensors")
    assert set(saved) == {"0.weight", "0.bias", "2.weight", "2.bias"}
    frame, percent = model.report_sparsity()
    assert percent == pytest.approx(100 * 128 / 192)
    assert frame["zeros"].tolist()[::2] == [96, 32]


def loop(
    prune: Pruning, names: dict[str, str], optimizer_hooks: bool
) -> Callable[[nn.Module], None]:
    """One training loop, its hooks spelled as in `names`."""

    def call(hook: str, *arguments: Any) -> Any:
        return getattr(prune, names.get(hook, hook))(*arguments)

    def train(model: nn.Module) -> None:
        optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9, weight_decay=0.01)
        for epoch in range(3):
            prune.on_epoch_begin(epoch)
            for step, batch in enumerate(batches()):
                call("on_batch_begin", step)
                loss = model(batch[0], batch[1], batch[3])[0]
                optimizer.zero_grad()
                loss.backward()
                if optimizer_hooks:
                    call("on_before_optimizer_step")
                optimizer.step()
                if optimizer_hooks and "on_after_optimizer_step" in names:
                    prune.on_after_optimizer_step()
                call("on_batch_end")
            prune.on_epoch_end()

    return train


@pytest.mark.parametrize(
    ("names", "optimizer_hooks"),
    [
        ({}, False),
        ({"on_before_optimizer_step": "on_post_grad"}, True),
        (
            {
                "on_batch_begin": "on_step_begin",
                "on_batch_end": "on_step_end",
                "on_after_optimizer_step": "on_after_optimizer_step",
            },
            True,
        ),
    ],
    ids=["lpot-1.4", "lpot-1.6", "neural-compressor-2"],
)
def test_every_spelling_of_the_hooks_does_the_same(
    config: Path, names: dict[str, str], optimizer_hooks: bool
) -> None:
    results = []
    for spelling, hooks in (({}, False), (names, optimizer_hooks)):
        network = Bert()
        prune = Pruning(config)
        prune.model = network
        prune.pruning_func = loop(prune, spelling, hooks)
        prune.fit()
        results.append(network.state_dict())
    for name, tensor in results[0].items():
        assert torch.equal(tensor, results[1][name])


@pytest.mark.parametrize("hook", [False, True])
@pytest.mark.parametrize("skip", [False, True])
def test_accumulated_and_skipped_steps_are_edited_once_they_are_made(
    tmp_path: Path, hook: bool, skip: bool
) -> None:
    """Against a loop over whole batches, with and without the hook after each half."""
    config = tmp_path / "conf.yaml"
    config.write_text(
        "version: 1.0\npruning:\n  approach:\n    weight_compression:\n"
        "      initial_sparsity: 0.0\n      target_sparsity: 0.5\n      start_epoch: 0\n"
        "      end_epoch: 1\n      pruners:\n        - !Pruner\n"
        "          prune_type: group_lasso\n          parameters: {alpha: 0.01, pattern: 4x1}\n"
    )

    def trained(parts: int) -> nn.Module:
        torch.manual_seed(0)
        network = nn.Linear(16, 16)
        prune = Pruning(config)
        prune.model = network

        def train(model: nn.Module) -> None:
            torch.manual_seed(1)
            optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
            for step in range(8):
                if step % 4 == 0:
                    prune.on_epoch_begin(step // 4)
                prune.on_batch_begin(step % 4)
                for rows in torch.randn(8, 16).chunk(parts):
                    (model(rows).square().mean() / parts).backward()
                    if parts > 1 and hook:
                        prune.on_before_optimizer_step()
                if not (skip and step == 5):  # as a gradient scaler does
                    optimizer.step()
                optimizer.zero_grad()
            pruned = (model.weight == 0) & (model.weight.grad is None)
            assert int(pruned.sum()) == 128
            assert not optimizer.state[model.weight]["momentum_buffer"][pruned].any()

        prune.pruning_func = train
        prune.fit()
        return network

    torch.testing.assert_close(trained(2).weight, trained(1).weight, rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16])
def test_a_training_function_may_move_the_network(config: Path, dtype: torch.dtype) -> None:
    network = Bert()
    prune = Pruning(config)
    prune.model = network

    def train(model: nn.Module) -> None:
        prune.on_epoch_begin(0)
        model.to(dtype)
        for epoch in range(3):
            prune.on_epoch_begin(epoch)

    prune.pruning_func = train
    prune.fit()
    assert network[0].weight.dtype == dtype
    assert int((network[0].weight == 0).sum()) == 96


def test_hooks_without_work_are_there_and_harmless() -> None:
    prune = Pruning(LpotConf())
    for hook in ("on_train_begin", "on_train_end", "pre_epoch_begin", "post_epoch_end"):
        getattr(prune, hook)()
    prune.on_before_eval()
    prune.on_after_eval()
    loss = torch.tensor(3.0)
    assert prune.on_after_compute_loss(None, None, loss) is loss
    assert repr(prune) == "Pruning"


AUTOMATIC = """pruning:
  train:
    end_epoch: 3
    iteration: 4
    optimizer: {AdamW: {learning_rate: 0.01, weight_decay: 1e-3}}
    criterion: {CrossEntropyLoss: {reduction: None}}
  approach:
    weight_compression: {end_epoch: 1, target_sparsity: 0.8}
"""


def test_an_automatic_training_on_the_users_loader() -> None:
    from ws_learner.compat.lpot.reader import parse_lpot

    torch.manual_seed(0)
    network = nn.Sequential(nn.Linear(8, 10), nn.ReLU(), nn.Linear(10, 4))
    seen: list[int] = []
    network.register_forward_hook(lambda *_: seen.append(1))
    prune = Pruning(parse_lpot(AUTOMATIC))
    prune.model = common.Model(network)
    prune.train_dataloader = [(b[0], b[3]) for b in batches()]
    prune()
    assert len(seen) == 3 * 4
    assert [int((network[i].weight == 0).sum()) for i in (0, 2)] == [64, 32]


def test_a_loss_that_is_nan_ends_an_automatic_training() -> None:
    from ws_learner.compat.lpot.reader import parse_lpot

    prune = Pruning(parse_lpot(AUTOMATIC))
    prune.model = nn.Sequential(nn.Linear(8, 10), nn.Linear(10, 4))
    broken = [(b[0], b[3]) for b in batches()]
    broken[1][0][0, 0] = torch.nan
    prune.train_dataloader = broken
    with pytest.raises(UserError, match=r"loss is nan in epoch 0; lower .* \(now 0\.01\)"):
        prune()


def test_what_is_missing_is_said() -> None:
    prune = Pruning(LpotConf(pruners=(Pruner(0, 1),)))
    with pytest.raises(UserError, match="assign the network first"):
        prune()
    prune.model = nn.Linear(2, 2)
    with pytest.raises(UserError, match="pruning_func"):
        prune()
    with pytest.raises(UserError, match="call prune"):
        prune.on_epoch_begin(0)


def test_nothing_follows_optimizers_afterwards(config: Path) -> None:
    network = Bert()
    prune = Pruning(config)
    prune.model = network
    prune.pruning_func = loop(prune, {}, False)
    prune()
    network[0].weight.data.fill_(1.0)
    optimizer = torch.optim.SGD(network.parameters(), lr=0.1)
    network(torch.ones(1, 8), torch.ones(1, 8), torch.zeros(1, dtype=torch.long))[0].backward()
    optimizer.step()
    assert int((network[0].weight == 0).sum()) == 0


@pytest.mark.long
def test_importing_the_package_needs_no_torch() -> None:
    code = (
        "import sys, ws_learner, experiments.cli.flags, ws_learner.compat.lpot.reader;"
        "assert 'torch' not in sys.modules and 'ray' not in sys.modules;"
        "from ws_learner import Pruning, common; assert common.Model"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
