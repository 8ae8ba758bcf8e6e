"""Searches with an agent on the tiny network, each about a second."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.nn import functional

from agents.ddpg_config import DDPGConfig
from envs.problem import IntArray, LayerRow
from tests.support.rollout_parts import SIDE, accuracy, tiny_data, trained_network
from ws_learner.config.learner import WeightSparseConfig
from ws_learner.core.run_dir import RunDir
from ws_learner.pruning.layers.table import layer_table
from ws_learner.search.allocator import Allocator
from ws_learner.search.rollout.local_pool import LocalPool

SMALL: dict[str, Any] = {
    "ws_nb_rlouts": 12,
    "ws_nb_rlouts_min": 1,
    "ws_nb_smpls_rg": 64,
    "ws_nb_smpls_bn": 64,
    "ws_nb_iters_feval": 1,
    "ws_nb_rescore": 2,
}


@cache
def network() -> nn.Module:
    return trained_network(tiny_data())


def allocator(folder: Path, *, exempt: tuple[str, ...] = (), **settings: Any) -> Allocator:
    model = network()
    return Allocator(
        model=model,
        data=tiny_data(),
        layers=table(exempt=exempt),
        loss=functional.cross_entropy,
        metric=accuracy,
        config=WeightSparseConfig(**SMALL | {"ws_prune_ratio": 0.9} | settings),
        agent=DDPGConfig(),
        seed=0,
        pool=lambda evaluator: LocalPool(evaluator, 0),
        run=RunDir(folder),
    )


def table(*, exempt: tuple[str, ...] = ()) -> tuple[LayerRow, ...]:
    return layer_table(network(), torch.zeros(2, 3, SIDE, SIDE), exempt=exempt)


def zeros_of(folder: Path, **settings: Any) -> IntArray:
    return allocator(folder, **settings).run_protocol().zeros
