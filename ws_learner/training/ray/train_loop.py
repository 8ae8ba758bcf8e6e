"""Training on Ray Train: data-parallel ranks run the local training function."""

from __future__ import annotations

import logging
import shutil
import socket
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import cloudpickle
import torch
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from ws_learner.config import ClusterConfig
from ws_learner.core import (
    ProcessGroup,
    UserError,
    importable,
    read_json,
    say,
    warn,
    write_bytes,
    write_json,
)

__all__ = ["Job", "few_examples", "train_on_ray"]

Job = Callable[[ProcessGroup], object]
"""Trains as one rank of a process group; saves checkpoints and resumes from them."""

FEW = 8
"""Examples per rank below which batch-norm statistics are unreliable."""
RESTARTS = 3
"""Maximum number of restarts after a rank failed."""


def train_on_ray(
    job: Job, config: ClusterConfig, *, folder: Path, batch_size: int, parts: Iterable[object]
) -> None:
    """Run `job` on every rank to its end; if a rank fails, restart all from the checkpoint.

    Ray must be connected, see `ray_session`.

    Args:
        job: The training job; its result is its last checkpoint.
        config: Number of ranks and their resources.
        folder: Folder to pass the job to the ranks, on storage that all machines share, like the
            job's files.
        batch_size: Examples per step; an upper bound of the number of ranks.
        parts: Objects within the job that may be defined in a user's file.

    Raises:
        UserError: The job had invalid input, or the ranks could not be started.
        RuntimeError: The job failed for another reason, after all restarts.
    """
    import ray.train
    from ray.train import FailureConfig

    from ws_learner.training.ray.network_interface import RankConfig
    from ws_learner.training.ray.ray_trainer import RayTrainer

    parts = list(parts)
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True, mode=0o700)
    with importable(parts):
        write_bytes(folder / "job.pkl", cloudpickle.dumps(job))
    ranks = min(config.ranks, batch_size)
    say(f"training on {ranks} rank{'s' if ranks > 1 else ''}")
    if warning := few_examples(batch_size, ranks=ranks, parts=parts):
        warn(warning)
    quiet = ray.train.LoggingConfig(log_level="CRITICAL")  # the ranks report errors themselves
    resources = {"CPU": 1.0} | ({"GPU": _whole(config)} if config.gpus_per_worker else {})
    trainer = RayTrainer(
        run_rank,
        train_loop_config={"folder": str(folder.resolve())},
        scaling_config=ray.train.ScalingConfig(
            num_workers=ranks,
            use_gpu=config.gpus_per_worker > 0,
            resources_per_worker=resources,
        ),
        torch_config=RankConfig(backend="nccl" if config.gpus_per_worker else "gloo"),
        run_config=ray.train.RunConfig(
            name="ranks",
            storage_path=str(folder.resolve()),
            logging_config=quiet,
            failure_config=FailureConfig(
                max_failures=RESTARTS,
                controller_failure_limit=1,  # type: ignore[call-arg]  # typed as the old class
            ),
        ),
    )
    logging.getLogger("ray.train").setLevel(logging.ERROR)
    try:
        trainer.fit()
    except ray.train.ControllerError as error:
        raise UserError(
            f"`ClusterConfig.workers`={config.workers}: {ranks} training ranks could not be "
            f"started ({str(error).splitlines()[-1]}); "
            "if others use the cluster, wait or ask for fewer"
        ) from error
    except ray.train.TrainingFailedError as error:
        for failure in getattr(error, "worker_failures", {}).values():
            if isinstance(failure, UserError):
                raise UserError(str(failure)) from error
        raise RuntimeError(f"training failed {RESTARTS + 1} times: {error}") from error
    if (folder / "refused.json").exists():
        raise UserError(read_json(folder / "refused.json"))
    shutil.rmtree(folder, ignore_errors=True)


def few_examples(batch_size: int, *, ranks: int, parts: Iterable[object]) -> str | None:
    """Warning if ranks have too few examples for batch norm; None otherwise.

    Args:
        batch_size: Examples per step.
        ranks: Number of ranks that share them.
        parts: Objects; networks among them are checked for batch norm.
    """
    networks = [part for part in parts if isinstance(part, nn.Module)]
    normed = any(isinstance(m, _BatchNorm) for network in networks for m in network.modules())
    if ranks == 1 or batch_size >= FEW * ranks or not normed:
        return None
    fits = batch_size // FEW
    remedy = f"give `batch_size` {FEW * ranks}" + (
        f", or `ClusterConfig.workers`={fits}" if fits else ""
    )
    return (
        f"`batch_size` {batch_size}: batch norm sees {batch_size // ranks} of them on each of "
        f"{ranks} ranks, and below {FEW} training may diverge; {remedy}"
    )


def _whole(config: ClusterConfig) -> float:
    return max(1.0, config.gpus_per_worker)


def _count_start(record: Path) -> None:
    starts = read_json(record) if record.exists() else 0
    if starts:
        warn(f"rank failed; restarting all ranks from the last checkpoint ({starts} of {RESTARTS})")
    write_json(record, starts + 1)


def run_rank(settings: dict[str, Any]) -> None:
    """Entry point of each rank's process, called by Ray Train.

    A user error is saved and raised, so that Ray ends the other ranks; the restart that
    follows finds the saved error and ends at once.
    """
    import ray.train

    context = ray.train.get_context()
    process_group = ProcessGroup(rank=context.get_world_rank(), size=context.get_world_size())
    folder = Path(settings["folder"])
    torch.set_num_threads(1)
    if (folder / "refused.json").exists():
        return
    if not (folder / "job.pkl").exists():
        raise UserError(
            f"{socket.gethostname()} does not see {folder}: the run directory must be on storage "
            "that all machines share (`storage`)"
        )
    address = ray.util.get_node_ip_address()  # type: ignore[no-untyped-call]
    say(f"rank {process_group.rank} of {process_group.size} on {address}")
    if process_group.rank == 0:
        _count_start(folder / "starts.json")
    job: Job = cloudpickle.loads((folder / "job.pkl").read_bytes())
    try:
        job(process_group)
    except UserError as error:
        write_json(folder / "refused.json", str(error))
        raise
    except Exception as error:
        warn(f"rank {process_group.rank} failed: {type(error).__name__}: {error}")
        raise
