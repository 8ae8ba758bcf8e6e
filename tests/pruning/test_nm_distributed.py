"""N:M training on two ranks that read different data: masks are equal to the last weight."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from tests.support.nm_oracle import mask_of

ROOT = Path(__file__).parents[2]
SCRIPT = """
import atexit, sys, torch
from torch import nn
from tests.support.tiny_experiment import Options, build
from ws_learner.core.device import ComputeDevice
from ws_learner.pruning.methods.mdgf import MdgfConfig
from ws_learner.config.recipe import Recipe
from ws_learner.pruning.sparsifier import Sparsifier
from ws_learner.pruning.patterns.nm import NM
from ws_learner.training.trainer import Callback, Trainer
from ws_learner.core.process_group import ProcessGroup

rank, port, out = int(sys.argv[1]), *sys.argv[2:]
torch.set_num_threads(1)
torch.distributed.init_process_group(
    "gloo", init_method=f"tcp://127.0.0.1:{port}", rank=rank, world_size=2)
atexit.register(torch.distributed.destroy_process_group)
experiment = build(Options(width=4), seed=0)
model, recipe = experiment.model, Recipe(nb_epochs=1, batch_size=29, lrn_rate=0.05)
total = recipe.total_steps(len(experiment.data.train))
sparsifier = Sparsifier(
    model, MdgfConfig(pattern=NM(1, 4)), ratios={"fc.weight": 0.75}, total_steps=total)
before = model.fc.weight.detach().clone()

class Watch(Callback):
    def on_start(self, trainer):
        sparsifier.attach(trainer.optimizer)

    def on_end(self, trainer):
        masks = {name: mask.clone() for name, mask in sparsifier.masks.items()}
        torch.save({"masks": masks, "before": before,
                    "after": model.fc.weight.detach().clone()}, out)

Trainer(
    model=model, split=experiment.data.train, recipe=recipe,
    criterion=lambda outputs, targets, inputs: nn.functional.cross_entropy(outputs, targets),
    compute=ComputeDevice(device="cpu", bf16=False, channels_last=False),
    seed=3, callbacks=[Watch()], process_group=ProcessGroup(rank, 2),
).run()
"""


@pytest.mark.slow
def test_masks_of_two_ranks_are_equal(tmp_path: Path) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    files = [tmp_path / f"{rank}.pt" for rank in range(2)]
    ranks = [
        subprocess.Popen(
            [sys.executable, "-c", SCRIPT, str(rank), port, str(file)],
            env=os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"},
        )
        for rank, file in enumerate(files)
    ]
    assert [rank.wait(timeout=300) for rank in ranks] == [0, 0]
    one, two = (torch.load(file, weights_only=True) for file in files)
    assert one["masks"].keys() == {"fc.weight"}
    assert torch.equal(one["masks"]["fc.weight"], two["masks"]["fc.weight"])
    assert torch.equal(one["after"], two["after"])
    after = one["after"].double().numpy()
    assert ((after != 0) == mask_of(after, 1, 4)).all()
    # The masks have moved since the start, so that they could have come apart.
    assert ((after != 0) != mask_of(one["before"].double().numpy(), 1, 4)).any()
