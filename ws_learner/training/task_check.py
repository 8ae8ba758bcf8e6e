"""Check on a few examples that network, data, loss and metric fit together, before any work."""

from __future__ import annotations

import copy
import warnings

import torch
from torch import Tensor, nn

from ws_learner.core import (
    Inputs,
    OutputKind,
    UserError,
    count_of,
    describe_output,
    half_types,
    main_output,
    map_tensors,
    model_failure,
    rows_of,
    run_model,
    say,
    tensors_of,
    warn,
    weight_type,
    widened,
)
from ws_learner.data import DataSplits, has_targets
from ws_learner.training.batch_check import first_batch
from ws_learner.training.data_check import check_inputs, check_labels, check_splits
from ws_learner.training.evaluation import Loss, top_k_accuracy
from ws_learner.training.loss_check import check_loss, refuse_writing
from ws_learner.training.metric_spec import Metric, MetricMean, as_metric
from ws_learner.training.not_finite import broken_weight, explained
from ws_learner.training.outputs import resolve_output_kind

__all__ = ["check_metric", "check_task", "network_answers"]

_EXAMPLES, _TARGETS = 3, 64


def check_task(
    model: nn.Module,
    data: DataSplits,
    *,
    loss: Loss,
    metric: Metric,
    outputs: str | None,
    compares: bool,
    batch_size: int | None = None,
) -> OutputKind | None:
    """Run the network on three training examples; check loss, metric and what the outputs mean.

    Inputs and labels in memory are checked in full, those of other splits in the first examples.

    Args:
        model: The dense network, on any device; it and its mode stay as they are.
        data: The splits; the train split is read.
        loss: The task loss.
        metric: Score of each example.
        outputs: What the outputs mean; None takes what the data say, or infers it.
        compares: Whether outputs are compared with the dense network's or a teacher's.
        batch_size: Examples of a training step, for a loss that does not take three.

    Returns:
        What the outputs mean; None if nothing is compared and it was not given.

    Raises:
        UserError: A split is empty, inputs or weights are not finite, a label has no output, the
            network does not return one tensor, the metric no finite number in its range for each
            example, the loss no finite number to minimise, or one of them changes its arguments;
            the loss compares each output with every target; or the meaning of the outputs is
            needed and not known.
    """
    check_splits(data)
    inputs, targets = first_batch(data, _TARGETS, seed=0)
    check_inputs(data)
    if weight := broken_weight(model):
        raise UserError(
            f"`model`: the weight {weight} holds NaN or infinity; load other weights, or train the "
            "network again"
        )
    answers = network_answers(model, rows_of(inputs, slice(_EXAMPLES)), says=True)
    _check_widened(model, rows_of(inputs, slice(_EXAMPLES)))
    if has_targets(targets):
        check_labels(data, loss, answers, targets)
        check_metric(metric, answers, targets)
        check_loss(
            loss,
            answers,
            targets[: len(answers)],
            whole=lambda: _training_batch(model, data, batch_size or len(targets)),
        )
        _refuse_broadcast(loss, _repeated(answers, targets), targets)
    _say_types(model, inputs)
    _say_mixed(answers, network_answers(model, rows_of(inputs, slice(_EXAMPLES - 1))))
    given = outputs or data.outputs
    if given is None and not compares:
        return None
    function = as_metric(metric).function
    if getattr(function, "func", function) is top_k_accuracy and answers.dim() == 2:
        given = given or "classes"
    kind = resolve_output_kind(given, answers, targets, num_classes=data.num_classes, loss=loss)
    if given is None and kind != "classes":
        say(f"the network's outputs are taken as {kind}; give `outputs` if they are not")
    return kind


@torch.no_grad()
def network_answers(model: nn.Module, inputs: Inputs, *, says: bool = False) -> Tensor:
    """Outputs for a batch, in evaluation mode, as float on the CPU."""
    first, modes = next(model.parameters(), None), [(m, m.training) for m in model.modules()]
    if first is not None:
        device = first.device
        inputs = map_tensors(inputs, lambda x: x.to(device))
    try:
        found = run_model(model.eval(), inputs)
    except UserError:
        raise
    except Exception as error:  # it may raise anything
        raise model_failure(error, inputs) from error
    finally:
        for module, training in modes:
            module.training = training
    answers, count = main_output(found, inputs), count_of(inputs)
    if answers.dim() == 0 or len(answers) != count:
        raise UserError(
            f"the network returns {tuple(answers.shape)} for {count} examples; it must return one "
            "tensor with a row for each example: wrap it in a module that picks its logits"
        )
    if says and (place := describe_output(found, inputs)):
        say(f"loss and metric get {place}, which the network returns")
    if bool(answers.isnan().any()):
        raise UserError(
            "the network's outputs are NaN on the first training examples: "
            + explained(model, inputs)
        )
    return answers.float().cpu()


def _training_batch(model: nn.Module, data: DataSplits, size: int) -> tuple[Tensor, Tensor]:
    """Outputs and targets of a whole batch of training."""
    inputs, targets = first_batch(data, size, seed=0)
    return network_answers(model, inputs), targets


def _check_widened(model: nn.Module, inputs: Inputs) -> None:
    """Check that a network of half precision runs in float32, as in search and training."""
    half = half_types(model)
    if not half:
        return
    try:
        network_answers(widened(copy.deepcopy(model)), inputs)
    except UserError as error:
        cause = error.__cause__
        if not isinstance(cause, RuntimeError):
            raise
        raise UserError(
            f"the network is {half}, and fails in float32 ({str(cause).splitlines()[0]}), in which "
            "search and training run: let its `forward` use the type of its weights"
        ) from cause


def _say_types(model: nn.Module, inputs: Inputs) -> None:
    """Say that floating inputs are of another type than the weights."""
    weights = weight_type(model)
    found = {tensor.dtype for tensor in tensors_of(inputs) if tensor.is_floating_point()}
    if weights is not None and (other := found - {weights}):
        names = " and ".join(sorted(str(kind).removeprefix("torch.") for kind in other))
        say(f"inputs of {names} are turned into the weights' {str(weights).removeprefix('torch.')}")


def _repeated(answers: Tensor, targets: Tensor) -> Tensor:
    """Outputs for as many examples as there are targets."""
    return answers[torch.arange(len(targets)) % len(answers)]


def _say_mixed(answers: Tensor, fewer: Tensor) -> None:
    """Say that the outputs of an example change with the rest of its batch."""
    if answers.shape[1:] != fewer.shape[1:]:  # sentences that are padded to the longest
        return
    spread = float(answers.abs().max()) if answers.numel() else 0.0
    if bool(((answers[: len(fewer)] - fewer).abs() > 0.01 * spread).any()):
        warn(
            "the network's outputs for an example change with the other examples of its batch, so "
            "that every result depends on the batch size; look for an attention with the examples "
            "on its second axis (`batch_first`), or a batch norm without running statistics"
        )


def _refuse_broadcast(loss: Loss, answers: Tensor, targets: Tensor) -> None:
    """Refuse a loss in which outputs (B, 1) and targets (B,) become (B, B)."""
    shapes = tuple(answers.shape), tuple(targets.shape)
    if shapes[0] == (*shapes[1], 1):
        other = answers.squeeze(-1), targets
    elif shapes[1] == (*shapes[0], 1):
        other = answers, targets.squeeze(-1)
    else:
        return
    try:
        with warnings.catch_warnings(), torch.random.fork_rng(devices=[]), torch.no_grad():
            warnings.simplefilter("ignore")
            found = []
            for pair in ((answers, targets), other):
                torch.default_generator.manual_seed(0)
                found.append(float(loss(*pair)))
    except Exception:  # it takes these shapes alone, and knows what it does
        return
    if abs(found[0] - found[1]) > 1e-4 * max(map(abs, found)):
        raise UserError(
            f"`loss`: compares each of the outputs {shapes[0]} with every one of the targets "
            f"{shapes[1]}; give both one shape, such as outputs.squeeze(-1)"
        )


def check_metric(metric: Metric, answers: Tensor, targets: Tensor) -> None:
    """Check a metric on two and on three examples, which must not change each other's scores.

    A mean over the batch shows in its shape, outputs (B, 1) less targets (B,) in the scores.

    Args:
        metric: Score of each example.
        answers: (3, ...) outputs; fewer are checked as far as they go.
        targets: (N, ...) targets of theirs and of more examples.

    Raises:
        UserError: It does not return a finite number, in its range, for each example, or a score
            depends on other examples.
    """
    metric = as_metric(metric)
    before = answers.clone(), targets.clone()
    for count in range(min(2, len(answers)), len(answers) + 1):
        mean = MetricMean(metric)
        mean.add(answers[:count], targets[:count])
        mean.value("the train split")
    refuse_writing("metric", (before[0], answers), (before[1], targets))
    many = _repeated(answers, targets)
    together = metric.scores(many, targets)
    for count in range(2, min(4, len(many))):  # a share of 2 and a share of 3 differ
        alone = metric.scores(many[:count], targets[:count])
        if torch.allclose(alone, together[:count], rtol=1e-3, atol=1e-6, equal_nan=True):
            continue
        raise UserError(
            f"`metric` {metric.name}: the score of an example changes with the other examples of "
            f"its batch; outputs {tuple(many.shape)} and targets {tuple(targets.shape)} may "
            "have been broadcast against each other: give both one shape"
        )
