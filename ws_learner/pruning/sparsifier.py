"""Attach a sparse-training method to any model, any optimizer and any training loop."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any, TypeVar, cast
from weakref import WeakSet

import torch
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.utils.hooks import RemovableHandle

from ws_learner.core import UserError, say, warn
from ws_learner.pruning.early_gradients import EarlyGradients
from ws_learner.pruning.layers.no_units import refuse_no_units
from ws_learner.pruning.layers.replaced import refuse_lacking, refuse_replaced
from ws_learner.pruning.layers.shards import refuse_shards
from ws_learner.pruning.layers.zero_counts import checked_zeros, sizes_of, split_ratios
from ws_learner.pruning.layers.zeros_to_keep import refuse_fewer_zeros, zeros_to_keep
from ws_learner.pruning.mask_copy import mask_copy
from ws_learner.pruning.methods.kept_zeros import kept_of_state
from ws_learner.pruning.methods.method import (
    CountsEpochs,
    HasEnd,
    HasReadings,
    KeepsZeros,
    MethodConfig,
    UsesGradients,
    check_method_config,
)
from ws_learner.pruning.methods.pattern_lock import PatternLock
from ws_learner.pruning.optimizer_steps import Arguments, OptimizerSteps
from ws_learner.pruning.patterns.mask import count_zeros
from ws_learner.pruning.saved_patterns import pattern_state, refuse_other_patterns
from ws_learner.pruning.sparsifier_arguments import check_sparsifier_arguments, plain_ratios
from ws_learner.pruning.swapped_weights import tell_of_swap
from ws_learner.pruning.wrapped_optimizers import unwrap_optimizer

__all__ = ["Sparsifier"]

Hook = TypeVar("Hook", bound=Callable[..., Any])
Model = TypeVar("Model", bound=nn.Module)
_ATTACHED: WeakSet[Sparsifier] = WeakSet()


class Sparsifier:
    """Makes a model sparse while any training loop trains it.

    The optimizer's step hooks do the work, so the training loop stays as it is. Parameters are
    changed in place and never replaced; the model keeps its class, names and state_dict keys.
    A step is one call of `optimizer.step()`, so gradient accumulation needs no care, and a step
    that a gradient scaler leaves out does not count, whether or not the optimizer is fused.
    Under DistributedDataParallel attach after the network is wrapped, which is when all ranks
    get the weights of the first.

    Example:
        >>> from ws_learner.pruning.methods.gradual import GradualConfig
        >>> model = nn.Linear(4, 4)
        >>> optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
        >>> config = GradualConfig(mask_update_step=1)
        >>> sparsifier = Sparsifier(model, config, ratios={"weight": 0.75}, total_steps=10)
        >>> sparsifier.attach(optimizer)
        >>> for _ in range(10):
        ...     loss = model(torch.randn(8, 4)).square().mean() + sparsifier.penalty()
        ...     optimizer.zero_grad()
        ...     loss.backward()
        ...     optimizer.step()
        >>> int((sparsifier.finalize().weight == 0).sum())
        12
    """

    def __init__(
        self,
        model: nn.Module,
        method_config: MethodConfig,
        *,
        zeros: Mapping[str, int] | None = None,
        ratios: Mapping[str, float] | None = None,
        layers: Iterable[str] | None = None,
        total_steps: int,
        keep_zeros: bool | Mapping[str, Tensor] | None = None,
    ) -> None:
        """Plan the pruning; nothing happens before `attach`.

        Args:
            model: On any device; it may move until `attach`.
            method_config: E.g. a `GradualConfig`.
            zeros: Parameter name -> final number of zeros; 0 leaves a layer alone, at no cost.
            ratios: Instead of `zeros`: parameter name -> share of zeros in [0, 1]. All layers
                together get round(sum of ratio x weights) zeros, split by largest remainder, or
                the nearest number that whole units of the method's pattern make, printed. Ratios
                above 0 that come to no unit at all are refused.
            layers: Instead of both, for a method whose sparsity is an outcome: parameter names.
            total_steps: Optimizer steps of the whole training.
            keep_zeros: Whether weights that are zero already stay zero and count towards the
                targets. None: if an earlier pruning left them, see `zeros_to_keep`. Or masks of
                the weights to keep at zero, by parameter name.

        Raises:
            UserError: A name, count or share does not fit the model, the method's schedule does
                not fit the steps, or the weights are split over processes (FSDP).
        """
        check_method_config(method_config)
        total_steps = check_sparsifier_arguments(
            model, zeros=zeros, ratios=ratios, total_steps=total_steps
        )
        ratios = None if ratios is None else plain_ratios(ratios)
        if sum(given is not None for given in (zeros, ratios, layers)) != 1:
            raise UserError(
                "Sparsifier: give one of `ratios`, such as ratios={'fc.weight': 0.9}, `zeros` or "
                "`layers`"
            )
        if layers is not None:
            if not getattr(method_config, "sets_own_ratios", False):
                raise UserError("layers alone: this method needs a number of zeros; give ratios")
            zeros = dict.fromkeys(layers, 0)
        refuse_shards(model, (zeros if ratios is None else ratios) or ())
        self._sizes = sizes_of(model, zeros if ratios is None else ratios)
        if ratios is None:
            targets = checked_zeros(zeros or {}, self._sizes)
        else:
            targets = split_ratios(ratios, self._sizes)
            self._refuse_no_units(model, method_config, ratios)
        targets = self._fitted(model, method_config, targets, exact=ratios is None)
        self.model, self._step, self._total_steps = model, 0, total_steps
        self._pruned = {name: n for name, n in targets.items() if n or layers is not None}
        self._method = method_config.build(model, zeros=self._pruned, total_steps=total_steps)
        self._config = method_config
        own = bool(getattr(method_config, "sets_own_ratios", False))
        self._keeps: bool | Mapping[str, Tensor] | None = False if own else keep_zeros
        self._together = getattr(method_config, "scope", "local") == "global"
        self._masked = self._weights()
        self._handles: list[RemovableHandle] = []
        self._optimizer: Optimizer | None = None
        self._steps, self._early = OptimizerSteps(), EarlyGradients()
        self._masked_early = False

    def _refuse_no_units(
        self, model: nn.Module, config: MethodConfig, ratios: Mapping[str, float]
    ) -> None:
        """Refuse ratios above 0 that come to no whole unit at all."""
        total = sum(self._sizes.values())
        target = sum(ratio * self._sizes[name] for name, ratio in ratios.items()) / total

        def zeros_at(overall: float) -> int:
            more = (overall - target) / (1 - target) if target < 1 else 0.0
            grown = {name: r and r + (1 - r) * more for name, r in ratios.items()}
            return sum(config.feasible(model, split_ratios(grown, self._sizes)).values())

        refuse_no_units(
            zeros_at,
            target,
            total=total,
            pattern=getattr(config, "pattern", "unstructured"),
            names=[name for name, ratio in ratios.items() if ratio],
        )

    @staticmethod
    def _fitted(
        model: nn.Module, config: MethodConfig, targets: dict[str, int], *, exact: bool
    ) -> dict[str, int]:
        """The targets, rounded to whole units of the method's pattern."""
        adjusted = config.feasible(model, targets)
        changed = [name for name, count in targets.items() if adjusted[name] != count]
        if changed and exact:
            name = changed[0]
            raise UserError(
                f"{targets[name]} zeros for {name}: whole units of the pattern make "
                f"{adjusted[name]}; give that count, or ratios, which are moved by themselves"
            )
        if changed:
            left = [name for name in changed if not adjusted[name]]
            dense = f"; without a whole unit, dense: {', '.join(left)}" if left else ""
            asked, made = sum(targets.values()), sum(adjusted.values())
            say(f"{asked} zeros asked for, {made} in whole units{dense}")
        return adjusted

    def _keep_zeros(self) -> None:
        """Let the method keep zeros that the network has when its training begins."""
        keep, self._keeps = self._keeps, False
        if self._step or isinstance(self._method, PatternLock):
            return
        method = self._method if isinstance(self._method, KeepsZeros) else None
        if isinstance(keep, Mapping):
            kept = dict(keep)
        else:
            plan = None if method is None else method.plan
            kept, line = zeros_to_keep(self.model, self._pruned, keep=keep, plan=plan)
            if line:
                say(line)
        if kept and method is None:
            warn("this method cannot keep the zeros that the network has: they are pruned anew")
        elif kept and method is not None:
            refuse_fewer_zeros(self._pruned, kept, self._sizes, together=self._together)
            method.keep_zeros(kept)

    @property
    def step(self) -> int:
        """Optimizer steps done under this sparsifier."""
        return self._step

    @property
    def finished(self) -> bool:
        """Whether the method's schedule has ended: `finalize` would succeed."""
        if isinstance(self._method, HasEnd):
            return self._method.is_finished(self._step)
        return self._step >= self._total_steps

    @property
    def masks(self) -> dict[str, Tensor]:
        """Parameter name -> bool mask, True = kept, of every layer whose target is not 0."""
        return dict(self._method.masks)

    def planned_ratio(self, step: int | None = None) -> float:
        """Share of zeros planned at `step` (default: now), over all weights of all layers given."""
        planned = self._method.planned_zeros(self._step if step is None else step)
        return sum(planned.values()) / sum(self._sizes.values())

    def counted_ratio(self) -> float:
        """Share of weights that are zero now, over all weights of all layers given."""
        counts = [count_zeros(self.model.get_parameter(name)) for name in self._sizes]
        return sum(counts) / sum(self._sizes.values())

    def attach(self, optimizer: Optimizer) -> None:
        """Follow `optimizer` from now on; a second time changes nothing.

        Args:
            optimizer: Or a wrapper of it, as accelerate's and Lightning's; see `unwrap_optimizer`.

        Raises:
            UserError: Attached to another optimizer; or the optimizer lacks a parameter that is to
                be pruned, as where it is frozen or belongs to a second optimizer; or another
                sparsifier is attached that prunes one of the parameters; or the wrapper holds no
                optimizer with step hooks; or the model has another parameter than when the
                pruning was planned; or a target is below the zeros to keep.
        """
        optimizer = unwrap_optimizer(optimizer)
        if self._handles and optimizer is self._optimizer:
            return
        if self._handles:
            raise UserError(
                "this sparsifier is attached to an optimizer already; detach() first, or make one "
                "for each optimizer, with the layers that it trains"
            )
        refuse_replaced(self.model, self._masked)
        known = {id(p) for group in optimizer.param_groups for p in group["params"]}
        parameters = dict(self.model.named_parameters(remove_duplicate=False))
        refuse_lacking({name: parameters[name] for name in self._pruned}, known)
        for _, name in self._other_sparsifiers():  # two at once would prune too much
            raise UserError(
                f"{name} is pruned by another Sparsifier that is attached already; call its "
                "finalize() or detach() first"
            )
        self._keep_zeros()
        self._method.attach(optimizer, self._step)
        self._optimizer = optimizer
        _ATTACHED.add(self)
        # The hooks run as they are where a whole step is compiled: traced, a mask value that
        # changes at every step would mean to compile at every step.
        self._handles = [
            optimizer.register_step_pre_hook(_untraced(self._before_step)),
            optimizer.register_step_post_hook(_untraced(self._after_step)),
        ]

    def detach(self) -> None:
        """Stop tracking the optimizer; pruned weights stay zero only until its next step."""
        for handle in self._handles:
            handle.remove()
        self._handles = []
        _ATTACHED.discard(self)

    @property
    def attached(self) -> bool:
        """Whether an optimizer is tracked now."""
        return bool(self._handles)

    def take_over(self, optimizer: Optimizer) -> None:
        """`attach`, and detach any other sparsifier of these parameters."""
        for other, _ in self._other_sparsifiers():
            other.detach()
        self.attach(optimizer)

    def _other_sparsifiers(self) -> list[tuple[Sparsifier, str]]:
        """Other attached sparsifiers of the same parameters, with one parameter's name."""
        parameters = dict(self.model.named_parameters(remove_duplicate=False))
        mine = {id(parameters[name]): name for name in self._pruned}
        found = []
        for other in _ATTACHED - {self}:
            theirs = dict(other.model.named_parameters(remove_duplicate=False))
            both = [mine[id(theirs[name])] for name in other._pruned if id(theirs[name]) in mine]
            found += [(other, name) for name in both[:1]]
        return found

    def epoch_begin(self) -> None:
        """Say that an epoch begins; needed only where a method counts the steps of an epoch."""
        if isinstance(self._method, CountsEpochs):
            self._method.epoch_begin(self._step)

    def readings(self) -> dict[str, float]:
        """Current values of the method's schedule, by name; empty if it has none."""
        return self._method.readings() if isinstance(self._method, HasReadings) else {}

    def mask_gradients(self) -> None:
        """Edit the gradients now rather than when the optimizer steps; for gradient clipping.

        Call it when the gradients are complete: after the last of accumulated batches and, with
        a GradScaler, after `scaler.unscale_(optimizer)`. Then the step edits them no more. What
        the method learns from gradients it still learns at the step, so nothing from one that is
        left out. A second call changes nothing.
        """
        if isinstance(self._method, UsesGradients) and self._method.reads_gradients:
            self._early.keep(self._weights(), self._method.masks)
        self._method.before_step()
        self._early.edited()
        self._masked_early = True

    def mask_copy(self, other: Model) -> Model:
        """Set what is pruned now to zero in another model of the same parameter names, in place.

        For copies that training makes beside the model: a moving average of the weights
        (EMA, SWA) has no zeros, and a copy of the best weights those of its time. Works during
        training and after `finalize`; averages that go on after it keep the zeros.

        Args:
            other: The copy, on any device; an `AveragedModel`, a DistributedDataParallel and a
                compiled model may be given as they are.

        Returns:
            `other` itself.

        Raises:
            UserError: It lacks a parameter that is pruned, or has one of another shape; it is
                not changed then.
        """
        return mask_copy(other, self._method.masks)

    def penalty(self) -> Tensor:
        """Scalar to add to the loss; zero where the method has none."""
        return self._method.penalty()

    def finalize(self) -> nn.Module:
        """Detach, check the exact number of zeros and return the model, an ordinary one again.

        Raises:
            UserError: Training ended before the method was through, no optimizer was attached, or
                the model has another parameter than the one that was pruned.
        """
        if self._optimizer is None and not self._step and self._pruned:
            raise UserError(
                "no optimizer was attached, so nothing was pruned: call `attach(optimizer)` before "
                "the training"
            )
        refuse_replaced(self.model, self._masked)
        self._method.finish(self._step)
        self.detach()
        tell_of_swap(self._optimizer)
        return self.model

    def state_dict(self) -> dict[str, Tensor]:
        """Tensors only: the step and the method's state.

        With the model's and the optimizer's own state, training resumes as if never interrupted.
        """
        plan = {"step": torch.tensor(self._step), "planned": torch.tensor(self._planned())}
        return plan | pattern_state(self._config) | self._method.state_dict()

    def load_state_dict(self, state: Mapping[str, Tensor]) -> None:
        """Take over a `state_dict` of the same model, targets and method.

        Raises:
            UserError: The state belongs to another network, or not to a sparsifier; or another
                schedule or `total_steps` would bring the pruned weights back or prune at once; or
                a layer has another pattern.
        """
        rest = dict(state)
        if "step" not in rest:
            raise UserError("not a Sparsifier state_dict: key `step` is missing")
        step, saved = int(rest.pop("step")), rest.pop("planned", None)
        refuse_other_patterns(self._config, rest.pop("patterns", None))
        with kept_of_state(self._method, rest):
            if saved is not None and self._has_plan:
                self._refuse_other_plan(step, int(saved))
            self._method.load_state_dict(rest)
        self._step = step

    @property
    def _has_plan(self) -> bool:
        return any(self._pruned.values())

    def _planned(self, step: int | None = None) -> int:
        return sum(self._method.planned_zeros(self._step if step is None else step).values())

    def _refuse_other_plan(self, step: int, saved: int) -> None:
        if (now := self._planned(step)) != saved:
            raise UserError(
                f"the saved state has {saved} zeros planned at step {step}, this plan has {now}, "
                "so the sparsity would jump: give the ratios, the schedule and the `total_steps` "
                f"(now {self._total_steps}) it was made with; the loop may make more steps"
            )

    def _weights(self) -> dict[str, nn.Parameter]:
        """The parameters that the method masks."""
        parameters = dict(self.model.named_parameters(remove_duplicate=False))
        return {name: parameters[name] for name in self._method.masks}

    def _before_step(
        self, optimizer: Optimizer, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> Arguments | None:
        def edit(call: int) -> None:
            if call:  # a closure has made new gradients
                self._forget_gradients()
            else:
                self._check_scale()
            if call <= 1 or self._sets_gradients:
                self._learn()
            self._method.before_step()

        arguments = self._steps.begin(optimizer, args, kwargs, edit)
        if not self._steps.counts:
            self._forget_gradients()
        return arguments

    def _after_step(self, optimizer: Optimizer, *_: Any) -> None:
        if self._steps.end(optimizer):
            self._step += 1
            self._method.after_step(optimizer, self._step)
            self._forget_gradients()

    @property
    def _sets_gradients(self) -> bool:
        return isinstance(self._method, UsesGradients) and self._method.sets_gradients

    def _check_scale(self) -> None:
        terms = isinstance(self._method, UsesGradients) and self._method.adds_terms
        if terms and self._masked_early and self._steps.was_scaled:
            raise UserError(
                "mask_gradients() was called on gradients that a GradScaler had scaled, so the "
                "method's terms are too small: call scaler.unscale_(optimizer) before it"
            )

    def _learn(self) -> None:
        """Let the method read the gradients as they were before `mask_gradients`, if it ran."""
        if not self._early:
            self._method.on_gradients()
            return
        with self._early.in_place(self._weights()):
            self._method.on_gradients()

    def _forget_gradients(self) -> None:
        self._early.clear()
        self._masked_early = False
        if isinstance(self._method, UsesGradients):
            self._method.new_gradients()


def _untraced(hook: Hook) -> Hook:
    return cast(Hook, torch.compiler.disable(hook))  # type: ignore[no-untyped-call]
