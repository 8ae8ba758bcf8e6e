"""Prunes a causal language model: ratios, walk, files, perplexity, report's numbers."""

from __future__ import annotations

import math
import time
from typing import Any

import numpy as np
import torch

from envs import FloatArray, IntArray
from ws_learner.config import WeightSparseConfig, parse_pattern_spec
from ws_learner.core import (
    RunDir,
    UserError,
    choose_device,
    describe_machine,
    load_state_file,
    save_state_file,
    write_text,
)
from ws_learner.language.blocks import BlockNetwork
from ws_learner.language.inner_neurons import find_inner
from ws_learner.language.layer_rows import block_layers, layer_rows
from ws_learner.language.out import copy_companions, write_pruned
from ws_learner.language.perplexity import paired_difference, perplexity, window_losses
from ws_learner.language.ratio_files import RatioFiles
from ws_learner.language.ratio_table import counted_table
from ws_learner.language.ratios import allocate, refuse_protocol
from ws_learner.language.recovery import Recovery, recover
from ws_learner.language.run_files import companions_of, open_pruned
from ws_learner.language.smaller import check_smaller, narrower, without_blocks
from ws_learner.language.task import LanguageTask
from ws_learner.language.walk import PrunedBlocks, WalkPlan, walk
from ws_learner.pruning import parse_pattern
from ws_learner.report import to_csv, totals

__all__ = ["LanguageLearner", "check_language"]

_USES = {
    "calibration": "windows whose hidden states the solver sees",
    "search": "windows on which protocols measure what pruning does",
    "test": "the metric at the top; read once, at the end",
}
_KINDS = ("unstructured", "block", "n:m")


def check_language(task: LanguageTask, config: WeightSparseConfig) -> None:
    """Open network and texts and see whether the settings fit them, before any work.

    Raises:
        UserError: They do not, or the pattern is none that is solved layer by layer.
    """
    spec = parse_pattern_spec(config.pattern_spelling)
    if spec.kind not in _KINDS or spec.columns:
        raise UserError(
            f"`ws_pattern` {spec}: language models take unstructured, N:M such as 2:4, and blocks "
            "such as 4x1"
        )
    settings = task.settings
    if config.ws_ratios is not None and (settings.drop_blocks or settings.drop_neurons):
        raise UserError(
            "`ws_ratios` with `drop_blocks` or `drop_neurons`: the ratios are of the whole "
            "network's layers; leave one out"
        )
    check_smaller(task.network, blocks=settings.drop_blocks, neurons=settings.drop_neurons)
    layers = block_layers(task.network)
    refuse_protocol(config, layer_rows(layers))
    assert len(task.windows.test) > 1  # reads the texts


class LanguageLearner:
    """Prunes the network of a task into a run directory.

    Every stage leaves its result in the directory, so that the same call goes on where an earlier
    one stopped and ends with the same bytes.
    """

    def __init__(
        self,
        task: LanguageTask,
        *,
        run: RunDir,
        config: WeightSparseConfig,
        facts: dict[str, Any] | None = None,
    ) -> None:
        """Configure a run.

        Args:
            task: Network, texts and settings.
            run: The directory, locked by the caller.
            config: Target, protocol, pattern and bounds; other settings are not read.
            facts: More entries of the summary.

        Raises:
            UserError: As `check_language`.
        """
        check_language(task, config)
        self.task, self.run, self.config, self.facts = task, run, config, dict(facts or {})
        self.spec = parse_pattern_spec(config.pattern_spelling)

    def fit(self) -> dict[str, Any]:
        """Run all stages; return the summary.

        Raises:
            UserError: Network, texts and settings do not fit together, or the disk is full.
        """
        windows, state = self.task.windows, self.run.state
        state.mkdir(parents=True, exist_ok=True)
        began = time.process_time()
        dense = self._losses(self.task.network, "dense")
        network, removed = self._smaller()
        layers = block_layers(network)
        zeros, search_seconds = self._zeros(network)
        plan = WalkPlan(
            layers=layers,
            zeros=zeros.tolist(),
            pattern=parse_pattern(self.config.pattern_spelling),
            solver=self.task.settings.solver,
        )
        pruned = walk(network, windows.calibration, plan, folder=state / "blocks")
        if not self.run.model.exists():
            write_pruned(self.run.model, network, layers, pruned)
        copy_companions(network.folder, companions_of(self.run))
        one_shot = self._recovered(network, pruned)
        sparse_network = open_pruned(self.run)
        frame = counted_table(layer_rows(layers), zeros, sparse_network.tensors)
        write_text(self.run.ratios, to_csv(frame))
        sparse = self._losses(sparse_network, "sparse")
        self._write_losses(dense, sparse)
        seconds = time.process_time() - began
        summary = self._summary(dense, sparse) | {"processor_seconds": seconds}
        summary["more_results"] |= removed
        if one_shot is not None:
            summary["more_results"] |= self._recovery_facts(one_shot, sparse)
        summary["more_results"]["processor time"] = f"{seconds:.0f} s"
        summary["more_results"]["processor time, ratios alone"] = f"{search_seconds:.0f} s"
        sums = totals(frame)
        summary |= {k: sums[k] for k in ("achieved_prune_ratio", "dense_macs", "kept_macs")}
        self.run.finish(summary)
        return summary

    def _zeros(self, network: BlockNetwork) -> tuple[IntArray, float]:
        """Planned zeros of each layer and the processor seconds it took to find them."""
        kept = self.run.state / "zeros.pt"
        if kept.exists():
            found = load_state_file(kept)
            return found["zeros"].numpy(), float(found["seconds"])
        began = time.process_time()
        zeros = allocate(
            network,
            block_layers(network),
            config=self.config,
            settings=self.task.settings,
            windows=self.task.windows,
            files=RatioFiles(
                survey=self.run.state / "survey.pt",
                database=self.run.state / "solved",
                search=self.run.state / "search.pt",
                table=self.run.rollouts,
            ),
        )
        seconds = time.process_time() - began
        save_state_file(kept, {"zeros": torch.from_numpy(zeros), "seconds": seconds})
        return zeros, seconds

    def _smaller(self) -> tuple[BlockNetwork, dict[str, str]]:
        """The network whose weights are pruned, and what was cut out of the dense one."""
        network, settings = self.task.network, self.task.settings
        said: dict[str, str] = {}
        if settings.drop_blocks:
            count = len(network)
            network, removed = without_blocks(
                network, self.task.windows, settings.drop_blocks, state=self.run.state
            )
            said["blocks removed"] = f"{len(removed)} of {count}: {', '.join(map(str, removed))}"
        if settings.drop_neurons:
            before = find_inner(network)[0].size
            network, size = narrower(
                network,
                self.task.windows,
                settings.drop_neurons,
                solver=settings.solver,
                state=self.run.state,
            )
            said["neurons of every block"] = f"{size} of {before}"
        if said:
            shapes = (self.task.network.tensors.shapes, network.tensors.shapes)
            dense, left = (sum(map(math.prod, one.values())) for one in shapes)
            said["parameters"] = f"{left:,} of {dense:,}"
        return network, said

    def _recovered(self, network: BlockNetwork, pruned: PrunedBlocks) -> FloatArray | None:
        """Train the written network on, and write it again; its losses before, if it was."""
        settings, layers = self.task.settings, block_layers(network)
        if not settings.recover_minutes:
            return None
        before = self._losses(open_pruned(self.run), "one-shot")
        plan = Recovery(
            network=network,
            teacher=self.task.folder,
            layers=layers,
            windows=self.task.windows.training,
            settings=settings,
            folder=self.run.state / "recovered",
        )
        write_pruned(self.run.model, network, layers, recover(plan, pruned))
        return before

    def _recovery_facts(self, before: FloatArray, after: FloatArray) -> dict[str, str]:
        settings = self.task.settings
        kind = f"LoRA of rank {settings.recover_rank}" if settings.recover_rank else "all weights"
        return {
            "one-shot perplexity, before recovery": f"{perplexity(before):.6g}",
            "recovered minus one-shot": str(paired_difference(after, before)),
            "recovery": f"{settings.recover_minutes:g} minutes, {settings.recover_by}, {kind}",
        }

    def _losses(self, network: BlockNetwork, name: str) -> FloatArray:
        """Losses on the test windows, measured once."""
        kept = self.run.state / f"{name}.pt"
        if not kept.exists():
            found = window_losses(network, self.task.windows.test, what=f"the {name} network")
            save_state_file(kept, {"losses": torch.from_numpy(found)})
        losses: FloatArray = load_state_file(kept)["losses"].numpy()
        return losses

    def _write_losses(self, dense: FloatArray, sparse: FloatArray) -> None:
        rows = [f"{place},{a!r},{b!r}" for place, (a, b) in
                enumerate(zip(dense.tolist(), sparse.tolist(), strict=True))]  # fmt: skip
        write_text(self.run.path / "windows.csv", "\n".join(["window,dense,sparse", *rows]) + "\n")

    def _summary(self, dense: FloatArray, sparse: FloatArray) -> dict[str, Any]:
        task, config = self.task, self.config
        difference, windows = paired_difference(sparse, dense), task.windows
        count, length = windows.test.shape
        more = {
            "sparse minus dense, 95 % interval over windows": str(difference),
            "perplexity, sparse / dense": f"{np.exp(difference.mean):.4g}",
            "measured on": f"{count} held-out windows of {length} tokens",
            "calibrated on": f"{windows.calibration.numel():,} tokens",
            "layer solver": task.settings.solver,
        }
        if task.dense_note:
            more["dense is"] = task.dense_note
        return {
            "experiment": task.name,
            "learner": "weight-sparse",
            "protocol": config.ws_prune_ratio_prtl,
            "method": task.settings.solver,
            "pattern": str(self.spec),
            "target_prune_ratio": config.ws_prune_ratio,
            "metric": "perplexity",
            "metric_unit": "",
            "higher_is_better": False,
            "dense_metric": perplexity(dense),
            "sparse_metric": perplexity(sparse),
            "nats_over_dense": difference.mean,
            "nats_over_dense_half_interval": difference.half,
            "more_results": more,
            "split_uses": _USES,
            "split_sizes": {
                "calibration": len(windows.calibration),
                "search": len(windows.search),
                "test": len(windows.test),
            },
            "hardware": describe_machine(choose_device("fp32")),
            **self.facts,
        }
