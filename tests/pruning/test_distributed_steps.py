"""Two ranks built from different seeds prune the same weights, under a scaler too."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest
import torch

ROOT = Path(__file__).parents[2]
SCRIPT = """
import atexit, sys, torch
from torch.amp import GradScaler
from torch.nn.parallel import DistributedDataParallel
from tests.support.every_method import CASES, STEPS, loss_of, network

rank, port, out = int(sys.argv[1]), *sys.argv[2:]
torch.set_num_threads(1)
torch.distributed.init_process_group(
    "gloo", init_method=f"tcp://127.0.0.1:{port}", rank=rank, world_size=2)
atexit.register(torch.distributed.destroy_process_group)
found = {}
for case in CASES:
    model = network(rank)
    if case == "pattern_lock":
        model = network(0)
    sparsifier = CASES[case].sparsifier(model)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.2, momentum=0.9, fused=True)
    early = case in ("movement", "gradual")
    if early:
        sparsifier.attach(optimizer)
    wrapped = DistributedDataParallel(model)
    if not early:
        sparsifier.attach(optimizer)
    scaler = GradScaler("cpu", init_scale=2.0**12)
    for step in range(STEPS + 2):
        optimizer.zero_grad()
        loss = loss_of(wrapped, 100 * rank + step)
        if step in (0, 9) and rank == 1:
            loss = loss * torch.inf  # of one rank, which all skip
        scaler.scale(loss).backward()
        scaler.step(optimizer)
        scaler.update()
    assert sparsifier.step == STEPS
    sparsifier.finalize()
    found[case] = {"masks": sparsifier.masks, "weights": model.state_dict()}
torch.save(found, out)
"""


@pytest.mark.slow
def test_ranks_end_on_the_same_zeros(tmp_path: Path) -> None:
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
    for case, ends in one.items():
        for part, tensors in ends.items():
            for name, tensor in tensors.items():
                assert torch.equal(tensor, two[case][part][name]), (case, part, name)
        assert any(not mask.all() for mask in ends["masks"].values()), case
