"""A network that a user brings, ready for a number of classes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import torch
from torch import nn

from ws_learner.core import UserError, call_model
from ws_learner.data import ImagePreparation

__all__ = ["BroughtNetwork", "HeadChoice", "class_order", "try_on_images"]

HeadChoice = Literal["auto", "keep", "new"]
_UNNAMED = "LABEL_"


@dataclass(frozen=True, kw_only=True)
class BroughtNetwork:
    """The network and what its source says of it.

    Attributes:
        name: Slug, such as `vit`.
        model: The network; its outputs are logits (B, classes).
        trained: Whether all weights are trained, the head's too.
        origin: Where they come from, in words.
        content: What the source stands for in a run's identity.
        preparation: Of images.
        order: Number, for the network, of each of the data's classes.
        companions: Files that belong beside the network.
    """

    name: str
    model: nn.Module
    trained: bool
    origin: str
    content: str
    preparation: ImagePreparation
    order: tuple[int, ...]
    companions: tuple[Path, ...] = ()


def class_order(
    known: Sequence[str], classes: Sequence[str], *, head: HeadChoice
) -> tuple[tuple[int, ...] | None, str]:
    """Number, for a network, of each of the data's classes; None asks for a new head.

    Names agree whatever their case, and whether words are separated by blanks, hyphens or
    underscores. Those that transformers makes up (LABEL_0) agree with any, in the data's order.

    Args:
        known: Names of the network's classes.
        classes: Names of the data's classes.
        head: `keep` takes as many classes in the data's order, whatever their names; `new` asks
            for a new head.

    Returns:
        The order, and the reason in words.

    Raises:
        UserError: `keep`, but the numbers of classes differ.
    """
    if len(known) != len(classes) and head == "keep":
        raise UserError(
            f"`head` keep: the network's head has {len(known)} classes, the data have "
            f"{len(classes)}; leave it out to get a new head"
        )
    same = tuple(range(len(classes)))
    if head == "new":
        return None, "a new head, as asked for"
    if len(known) != len(classes):
        return None, f"a new head for {len(classes)} classes, it had {len(known)}"
    if head == "keep":
        return same, "with its head, classes in the order of the folders"
    if all(name.startswith(_UNNAMED) for name in known):
        return same, "with its head; it names no classes, so they are in the order of the folders"
    places = {_plain(name): place for place, name in enumerate(known)}
    wanted = [places.get(_plain(name)) for name in classes]
    order = tuple(place for place in wanted if place is not None)
    if len(set(order)) == len(classes):
        return order, "with its head"
    other = next((n for n, p in zip(classes, wanted, strict=True) if p is None), classes[0])
    return None, f"a new head, as its classes have other names, and none is {other}"


def _plain(name: str) -> str:
    return " ".join(name.casefold().replace("_", " ").replace("-", " ").split())


def try_on_images(network: BroughtNetwork, classes: int, *, source: str) -> None:
    """Run the network once on two images.

    Raises:
        UserError: It fails, or does not answer with logits (2, classes).
    """
    size = network.preparation.size
    training = network.model.training
    network.model.eval()
    try:
        with torch.no_grad():
            answer = call_model(network.model, torch.zeros(2, 3, size, size))
    except Exception as error:  # any network, any error: one line tells it
        reason = str(error).strip().partition("\n")[0].rstrip(".") or type(error).__name__
        raise UserError(
            f"`model` {source}: does not take images (3, {size}, {size}): {reason}; "
            "`image_size` chooses another size"
        ) from error
    finally:
        network.model.train(training)
    if answer.shape != (2, classes):
        raise UserError(
            f"`model` {source}: two images give {tuple(answer.shape)}, not logits (2, {classes}); "
            "only classifiers of images fit"
        )
