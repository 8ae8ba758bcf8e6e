"""Several processes, one training: the same images each step, the same gradients."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import textwrap
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from tests.support.digits import digits_splits
from tests.support.tiny_experiment import Options, build
from ws_learner.core.errors import UserError
from ws_learner.core.process_group import ProcessGroup, rank_slice
from ws_learner.data.dataset_split import DatasetSplit
from ws_learner.data.rank_batches import read_rank_batches
from ws_learner.training.ray.network_interface import card_of
from ws_learner.training.trainer import epoch_seed

ROOT = Path(__file__).parents[2]


@given(count=st.integers(0, 300), size=st.integers(1, 40))
def test_parts_tile_the_batch_and_differ_by_at_most_one_row(count: int, size: int) -> None:
    parts = [list(range(count))[rank_slice(count, rank=r, size=size)] for r in range(size)]
    assert [row for part in parts for row in part] == list(range(count))
    assert max(map(len, parts)) - min(map(len, parts)) <= 1


class Noisy:
    """Draws from the global generator, as augmentation does."""

    def __len__(self) -> int:
        return 53

    def __getitem__(self, index: int) -> tuple[torch.Tensor, int]:
        return torch.rand(3) + index, index


@pytest.mark.parametrize("split", [digits_splits().train, DatasetSplit(Noisy())])
@pytest.mark.parametrize("size", [1, 2, 3])
def test_ranks_read_the_very_rows_of_a_process_alone(split: DatasetSplit, size: int) -> None:
    whole = list(split.batches(10, seed=5, augment=True, skip=2, drop_last=True))
    parts = [
        list(read_rank_batches(split, 10, process_group=ProcessGroup(rank, size), seed=5, skip=2))
        for rank in range(size)
    ]
    for number, (inputs, targets) in enumerate(whole):
        assert torch.equal(torch.cat([p[number][0] for p in parts]), inputs)
        assert torch.equal(torch.cat([p[number][1] for p in parts]), targets)
    assert all(len(p) == len(whole) for p in parts)


def test_more_ranks_than_rows_are_refused() -> None:
    with pytest.raises(UserError, match=r"`batch_size` 3.*`ClusterConfig\.workers`=3"):
        ProcessGroup(0, 4).check_batch(3)


SCRIPT = """
import sys, torch
from torch import nn
from tests.support.tiny_experiment import Options, build
from ws_learner.core.device import ComputeDevice
from ws_learner.config.recipe import Recipe
from ws_learner.training.trainer import Callback, Trainer
from ws_learner.core.process_group import ProcessGroup

rank, size, port, norm, batch, epochs, out = int(sys.argv[1]), int(sys.argv[2]), *sys.argv[3:]
torch.set_num_threads(1)
if size > 1:
    torch.distributed.init_process_group(
        "gloo", init_method=f"tcp://127.0.0.1:{port}", rank=rank, world_size=size)
experiment = build(Options(width=4), seed=rank)  # ranks need not even start alike
model = experiment.model
if size == 1:
    model = build(Options(width=4), seed=0).model
if norm == "none":
    model.bn1 = model.bn2 = nn.Identity()
losses = []

class Keep(Callback):
    def on_step_end(self, trainer, loss):
        losses.append(float(loss))

class Double(ComputeDevice):
    def place(self, inputs):
        return inputs.double()

world = ProcessGroup(rank, size)
Trainer(
    model=model.double(), split=experiment.data.train,
    recipe=Recipe(nb_epochs=float(epochs), batch_size=int(batch), lrn_rate=0.02),
    criterion=lambda outputs, targets, inputs: nn.functional.cross_entropy(outputs, targets),
    compute=Double(device="cpu", bf16=False, channels_last=False),
    seed=3, callbacks=[Keep()], process_group=world,
).run()
world.assert_equal_across_ranks("state of", model.state_dict())
if rank == 0:
    torch.save({"model": model.state_dict(), "losses": losses}, out)
if size > 1:
    torch.distributed.barrier()  # no rank goes while another still needs it
    torch.distributed.destroy_process_group()
"""


def train(
    tmp_path: Path, size: int, norm: str, *, batch: str = "29", epochs: str = "1"
) -> dict[str, dict[str, torch.Tensor]]:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    out = tmp_path / f"{size}-{norm}.pt"
    words = [port, norm, batch, epochs, str(out)]
    ranks = [
        subprocess.Popen(
            [sys.executable, "-c", textwrap.dedent(SCRIPT), str(rank), str(size), *words],
            env=os.environ | {"PYTHONPATH": str(ROOT)},
        )
        for rank in range(size)
    ]
    assert [rank.wait(timeout=300) for rank in ranks] == [0] * size
    loaded: dict[str, dict[str, torch.Tensor]] = torch.load(out, weights_only=True)
    return loaded


@pytest.mark.long
def test_without_batch_norm_ranks_learn_what_a_process_alone_learns(tmp_path: Path) -> None:
    """Batches of 29 do not even divide by 2; in float64 only rounding may differ."""
    alone, both = train(tmp_path, 1, "none"), train(tmp_path, 2, "none")
    for name, tensor in alone["model"].items():
        np.testing.assert_allclose(both["model"][name], tensor, rtol=1e-6, atol=1e-9)
    np.testing.assert_allclose(both["losses"], alone["losses"], rtol=1e-6)


@pytest.mark.long
def test_running_statistics_are_those_of_the_whole_batch(tmp_path: Path) -> None:
    """After one step: every part normalised by itself, then averaged; oracle in NumPy."""
    both = train(tmp_path, 2, "batch", batch="28", epochs="0.01")["model"]
    assert int(both["bn1.num_batches_tracked"]) == 1
    experiment = build(Options(width=4), seed=0)
    seed = epoch_seed(3, 0)
    inputs, _ = next(experiment.data.train.batches(28, seed=seed, augment=True))
    with torch.no_grad():
        seen = experiment.model.double().conv1(inputs.double()).numpy()
    np.testing.assert_allclose(both["bn1.running_mean"], 0.1 * seen.mean((0, 2, 3)), rtol=1e-5)
    parts = [part.var((0, 2, 3), ddof=1) for part in (seen[:14], seen[14:])]
    np.testing.assert_allclose(both["bn1.running_var"], 0.9 + 0.1 * np.mean(parts, 0), rtol=1e-5)


WIDEST = """
import sys, torch
from ws_learner.core.process_group import ProcessGroup

rank, size, port = map(int, sys.argv[1:])
torch.distributed.init_process_group(
    "gloo", init_method=f"tcp://127.0.0.1:{port}", rank=rank, world_size=size)
seen = torch.tensor([[-1.0, 5.0], [2.0, 3.0]]) + torch.tensor([-1.0, 1.0]) * rank
seen[1] -= 4 * rank
print(ProcessGroup(rank, size).all_reduce_minmax(seen).tolist())
torch.distributed.barrier()  # no rank goes while another still needs it
torch.distributed.destroy_process_group()
"""


@pytest.mark.long
def test_widest_ranges_hold_what_every_rank_has_seen() -> None:
    """Rank 0 has [-1, 5] and [2, 3], rank 1 [-2, 6] and [-3, 0]."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    ranks = [
        subprocess.Popen(
            [sys.executable, "-c", textwrap.dedent(WIDEST), str(rank), "2", port],
            env=os.environ | {"PYTHONPATH": str(ROOT)},
            stdout=subprocess.PIPE,
            text=True,
        )
        for rank in range(2)
    ]
    said = [rank.communicate(timeout=300)[0] for rank in ranks]
    assert [rank.returncode for rank in ranks] == [0, 0]
    assert said == ["[[-2.0, 6.0], [-3.0, 3.0]]\n"] * 2


def test_a_process_alone_has_seen_everything() -> None:
    ranges = torch.tensor([[-1.0, 5.0], [2.0, 3.0]])
    assert torch.equal(ProcessGroup().all_reduce_minmax(ranges), ranges)


def test_the_card_of_an_address() -> None:
    assert card_of("127.0.0.1") == "lo"
    assert card_of("203.0.113.9") is None
