"""Prune in Hugging Face's `Trainer`: a callback. Needs the package transformers.

Example:
    from ws_learner.compat.hugging_face import SparsifierCallback

    Trainer(..., callbacks=[SparsifierCallback(GradualConfig(), ratios={"fc.weight": 0.9})])
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch.distributed as dist
from torch import nn

from ws_learner.compat.loops.plan import PruningPlan, Zeros
from ws_learner.compat.loops.pruning import LoopPruning, digest
from ws_learner.core import AnyPath, UserError, load_state_file, save_state_file, say
from ws_learner.pruning import MethodConfig, Sparsifier

try:
    from transformers import TrainerCallback
except ImportError as error:
    raise ImportError(
        "ws_learner.compat.hugging_face needs transformers and accelerate: "
        "pip install -e '.[trainers]'"
    ) from error
if TYPE_CHECKING:
    from transformers import TrainerControl, TrainerState, TrainingArguments

__all__ = ["SparsifierCallback"]


class SparsifierCallback(TrainerCallback):  # type: ignore[misc, unused-ignore]
    """Prunes the network that a `Trainer` trains, to an exact number of zeros.

    Each checkpoint gets a file with the pruning's state, and a resumed training continues it. The
    best model is chosen among the checkpoints whose schedule has ended; early stopping counts
    from there, too. A training that ends before raises a `UserError`.

    List it last: a callback after it that changes weights when training ends would undo it.
    """

    def __init__(
        self,
        method_config: MethodConfig,
        *,
        zeros: Zeros | None = None,
        ratios: Mapping[str, float] | None = None,
        layers: Iterable[str] | None = None,
        total_steps: int | None = None,
        resume_from: AnyPath | None = None,
        name: str = "sparsifier",
    ) -> None:
        """Plan the pruning; the network is looked at when training begins.

        Args:
            method_config: See `Sparsifier`.
            zeros: See `Sparsifier`; or a function of the network, such as `found_zeros`.
            ratios: See `Sparsifier`.
            layers: See `Sparsifier`.
            total_steps: Optimizer steps over which to prune; None: those of the training.
            resume_from: Folder of the checkpoint that `train(resume_from_checkpoint=...)` gets,
                which is not told to callbacks; None: looked for in the output folder.
            name: Of the file in a checkpoint; two callbacks in one `Trainer` need two names.

        Raises:
            UserError: An argument is wrong.
        """
        plan = PruningPlan(
            method_config=method_config,
            zeros=zeros,
            ratios=ratios,
            layers=layers,
            total_steps=total_steps,
        )
        if not name or Path(name).name != name:
            raise UserError(f"`name` {name!r}: must be a file name without a folder")
        self._loop, self._file = LoopPruning(plan), f"{name}.pt"
        self._resume_from = resume_from

    @property
    def sparsifier(self) -> Sparsifier | None:
        """That of the training that runs or ran last; None before."""
        return self._loop.sparsifier

    def on_train_begin(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        **kwargs: Any,
    ) -> None:
        """Attach to the optimizer; on a resumed training with the checkpoint's state.

        Raises:
            UserError: See `LoopPruning.begin`; or no state belongs to the checkpoint.
        """
        model: nn.Module = kwargs["model"]
        self._refuse_namesake(state)
        saved = self._of_resumed(args, state, model) if state.global_step else None
        self._loop.begin(model, [kwargs["optimizer"]], steps=state.max_steps, saved=saved)
        if args.load_best_model_at_end or args.metric_for_best_model is not None:
            say(
                "best model: chosen among the checkpoints after the pruning's schedule, which end "
                "as sparse as asked for; early stopping counts from there"
            )

    def on_epoch_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Tell a method that counts epochs; a training may be resumed within one."""
        if self._loop.sparsifier is not None and float(state.epoch or 0).is_integer():
            self._loop.sparsifier.epoch_begin()

    def on_step_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Forget the best model as long as the network is not as sparse as asked for."""
        if self._loop.sparsifier is not None and not self._loop.sparsifier.finished:
            state.best_metric = state.best_global_step = state.best_model_checkpoint = None

    def on_save(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Write the pruning's state into the checkpoint.

        Raises:
            UserError: The checkpoint's folder is not there, or the disk is full.
        """
        sparsifier = self._loop.sparsifier
        if sparsifier is not None and args.should_save:
            own = {
                "global_step": state.global_step,
                "weights": digest(kwargs["model"], sparsifier.masks),
            }
            save_state_file(_folder(args, state) / self._file, self._loop.state() | own)
        if dist.is_available() and dist.is_initialized():
            dist.barrier()  # other ranks may read it at the end

    def on_train_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Finalize, with the masks that belong to the best model if that was loaded.

        Raises:
            UserError: Training ended before the schedule did.
        """
        model, best = kwargs["model"], state.best_model_checkpoint
        sparsifier = self._loop.sparsifier
        if sparsifier is not None and args.load_best_model_at_end and best is not None:
            saved = self._read(Path(best))
            if saved["weights"] != digest(model, sparsifier.masks):
                raise UserError(
                    f"{best}: the network does not have the best model's weights: they were not "
                    "loaded, or another callback has changed them since; list it after this one, "
                    "or leave load_best_model_at_end out"
                )
            sparsifier.load_state_dict(saved["sparsifier"])
        self._loop.end(model)

    def _refuse_namesake(self, state: TrainerState) -> None:
        others = state.__dict__.setdefault("_sparsifier_callbacks", {})
        if others.setdefault(self._file, self) is not self:
            raise UserError(
                f"`name` {Path(self._file).stem!r}: two SparsifierCallbacks have it; give each its "
                "own, or one callback all layers"
            )

    def _of_resumed(
        self, args: TrainingArguments, state: TrainerState, model: nn.Module
    ) -> dict[str, Any]:
        """The state that was saved with the weights that the model has now."""
        told = [self._resume_from, args.resume_from_checkpoint]
        folders = [Path(folder) for folder in told if isinstance(folder, (str, Path))]
        folders.append(Path(args.output_dir or ".") / f"checkpoint-{state.global_step}")
        there = [folder for folder in folders if (folder / self._file).is_file()]
        for folder in there:
            saved = self._read(folder)
            state_of = saved["sparsifier"]
            names = [key.removeprefix("mask.") for key in state_of if key.startswith("mask.")]
            known = dict(model.named_parameters(remove_duplicate=False))
            if saved["global_step"] != state.global_step or not known.keys() >= set(names):
                continue
            if saved["weights"] == digest(model, names):
                return saved
        looked = ", ".join(map(str, there or folders))
        what = "belongs to other weights than those resumed" if there else "is not there"
        raise UserError(
            f"`resume_from`: {self._file} {what} (looked in {looked}). Give "
            "SparsifierCallback(..., resume_from=FOLDER), the checkpoint that train() resumes; one "
            "written without this callback can only be the network of a new training"
        )

    def _read(self, folder: Path) -> dict[str, Any]:
        try:
            return load_state_file(folder / self._file)
        except UserError as error:
            raise UserError(
                f"{folder / self._file}: missing or damaged; resume from an earlier checkpoint"
            ) from error


def _folder(args: TrainingArguments, state: TrainerState) -> Path:
    """The checkpoint that was just written; each trial of a search has a folder of its own."""
    top, name = Path(args.output_dir or "."), f"checkpoint-{state.global_step}"
    if state.is_hyper_param_search:
        found = sorted(top.glob(f"*/{name}"), key=lambda folder: folder.stat().st_mtime)
        top = found[-1].parent if found else top
    if not (top / name).is_dir():
        raise UserError(f"{top / name}: the checkpoint that was just saved is not there")
    return top / name
