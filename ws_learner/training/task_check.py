"""Check on a few examples that network, data, loss and metric fit together, before any work."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from ws_learner.core import OutputKind, UserError, say
from ws_learner.data import DataSplits
from ws_learner.training.evaluation import Loss, top_k_accuracy
from ws_learner.training.metric_spec import Metric, MetricMean, as_metric
from ws_learner.training.outputs import resolve_output_kind

__all__ = ["check_metric", "check_task"]

_EXAMPLES, _TARGETS = 3, 64


def check_task(
    model: nn.Module,
    data: DataSplits,
    *,
    loss: Loss,
    metric: Metric,
    outputs: str | None,
    compares: bool,
) -> OutputKind | None:
    """Run the network on three training examples; check the metric and what the outputs mean.

    Args:
        model: The dense network, on any device; it and its mode stay as they are.
        data: The splits; the train split is read.
        loss: The task loss.
        metric: Score of each example.
        outputs: What the outputs mean; None takes what the data say, or infers it.
        compares: Whether outputs are compared with the dense network's or a teacher's.

    Returns:
        What the outputs mean; None if nothing is compared and it was not given.

    Raises:
        UserError: The network does not return one tensor, the metric no finite number in its
            range for each example, or the meaning of the outputs is needed and not known.
    """
    inputs, targets = next(iter(data.train.batches(_TARGETS, seed=0)))
    answers = _answers(model, inputs[:_EXAMPLES])
    check_metric(metric, answers, targets[:_EXAMPLES])
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
def _answers(model: nn.Module, inputs: Tensor) -> Tensor:
    first, modes = next(model.parameters(), None), [(m, m.training) for m in model.modules()]
    if first is not None:
        inputs = inputs.to(first.device)
    try:
        answers = model.eval()(inputs)
    finally:
        for module, training in modes:
            module.training = training
    if not isinstance(answers, Tensor) or answers.dim() == 0 or len(answers) != len(inputs):
        found = tuple(answers.shape) if isinstance(answers, Tensor) else type(answers).__name__
        raise UserError(
            f"the network returns {found} for {len(inputs)} examples; it must return one tensor "
            "with a row for each example: wrap it in a module that picks its logits"
        )
    answers = answers.float().cpu()
    if bool(answers.isnan().any()):
        raise UserError(
            "the network's outputs are NaN on the first training examples; "
            "look for NaN in its weights and inputs"
        )
    return answers


def check_metric(metric: Metric, answers: Tensor, targets: Tensor) -> None:
    """Check a metric on two and on three examples: a mean over the batch shows in its shape.

    Args:
        metric: Score of each example.
        answers: (3, ...) outputs; fewer are checked as far as they go.
        targets: Their targets.

    Raises:
        UserError: It does not return a finite number, in its range, for each example.
    """
    for count in range(min(2, len(answers)), len(answers) + 1):
        mean = MetricMean(metric)
        mean.add(answers[:count], targets[:count])
        mean.value("the train split")
