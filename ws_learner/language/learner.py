"""Prunes a causal language model: ratios, walk, files, perplexity, report's numbers."""

from __future__ import annotations

import math
import time
from typing import Any

import torch

from envs import FloatArray, IntArray
from ws_learner.config import WeightSparseConfig
from ws_learner.core import (
    RunDir,
    load_state_file,
    save_state_file,
    write_text,
)
from ws_learner.language.blocks import BlockNetwork
from ws_learner.language.checks import check_language
from ws_learner.language.inner_neurons import find_inner
from ws_learner.language.layer_rows import block_layers, layer_rows
from ws_learner.language.out import copy_companions, write_pruned
from ws_learner.language.perplexity import window_losses
from ws_learner.language.ratio_files import RatioFiles
from ws_learner.language.ratio_table import counted_table
from ws_learner.language.ratios import allocate
from ws_learner.language.recovery import Recovery, recover
from ws_learner.language.run_files import companions_of, open_pruned
from ws_learner.language.smaller import narrower, without_blocks
from ws_learner.language.summary import losses_csv, recovery_facts, summarise
from ws_learner.language.task import LanguageTask
from ws_learner.language.walk import PrunedBlocks, WalkPlan, prune_blocks
from ws_learner.pruning import parse_pattern
from ws_learner.report import to_csv, totals

__all__ = ["LanguageLearner"]


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
        pruned = prune_blocks(network, windows.calibration, plan, folder=state / "blocks")
        if not self.run.model.exists():
            write_pruned(self.run.model, network, layers, pruned)
        copy_companions(network.folder, companions_of(self.run))
        one_shot = self._recovered(network, pruned)
        sparse_network = open_pruned(self.run)
        frame = counted_table(layer_rows(layers), zeros, sparse_network.tensors)
        write_text(self.run.ratios, to_csv(frame))
        sparse = self._losses(sparse_network, "sparse")
        write_text(self.run.path / "windows.csv", losses_csv(dense, sparse))
        seconds = time.process_time() - began
        summary = summarise(self.task, self.config, dense=dense, sparse=sparse)
        summary |= self.facts | {"processor_seconds": seconds}
        summary["more_results"] |= removed
        if one_shot is not None:
            summary["more_results"] |= recovery_facts(
                self.task.settings, before=one_shot, after=sparse
            )
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

    def _losses(self, network: BlockNetwork, name: str) -> FloatArray:
        """Losses on the test windows, measured once."""
        kept = self.run.state / f"{name}.pt"
        if not kept.exists():
            found = window_losses(network, self.task.windows.test, what=f"the {name} network")
            save_state_file(kept, {"losses": torch.from_numpy(found)})
        losses: FloatArray = load_state_file(kept)["losses"].numpy()
        return losses
