"""Which tensor of a folder belongs to which parameter of a network."""

from __future__ import annotations

from typing import Any

from ws_learner.core import UserError, shown
from ws_learner.language.tensor_folder import TensorFolder

__all__ = ["match_names"]


def match_names(model: Any, tensors: TensorFolder, *, source: str) -> dict[str, str]:
    """Name of the tensor of each parameter.

    Names are the same, or differ by the prefix of the network's base. A tied head has the tensor of
    the embedding. A parameter that is left, such as a head that was renamed, has the one tensor
    that is left of its shape.

    Args:
        model: A network of transformers.
        tensors: The folder's.
        source: The folder, for messages.

    Raises:
        UserError: A parameter has no tensor, or one of another shape.
    """
    shapes = {
        name: tuple(parameter.shape)
        for name, parameter in model.named_parameters(remove_duplicate=False)
    }
    prefix, found = f"{model.base_model_prefix}.", dict[str, str]()
    for name in shapes:
        spelled = (name, name.removeprefix(prefix), prefix + name)
        if key := next((one for one in spelled if one in tensors), None):
            found[name] = key
    found |= _tied_head(model, found)
    found |= _left_over(shapes, found, tensors)
    for name, shape in shapes.items():
        if name not in found:
            raise UserError(
                f"`model` {source}: its weights lack {shown(name)}; save the whole network with "
                "save_pretrained"
            )
        if tensors.shapes[found[name]] != shape:
            raise UserError(
                f"`model` {source}: {shown(found[name])} is {tensors.shapes[found[name]]}, "
                f"config.json says {shape}; download the folder again"
            )
    return found


def _tied_head(model: Any, found: dict[str, str]) -> dict[str, str]:
    """The output embedding's weight, if it is the input embedding's and not in the files."""
    if not getattr(model.config, "tie_word_embeddings", False):
        return {}
    places = {id(module): place for place, module in model.named_modules()}
    head, embedding = model.get_output_embeddings(), model.get_input_embeddings()
    name, source = (f"{places.get(id(module))}.weight" for module in (head, embedding))
    return {name: found[source]} if source in found and head is not None else {}


def _left_over(
    shapes: dict[str, tuple[int, ...]], found: dict[str, str], tensors: TensorFolder
) -> dict[str, str]:
    left = [name for name in shapes if name not in found]
    free = [key for key in tensors.shapes if key not in found.values()]
    matched = {}
    for name in left:
        fitting = [key for key in free if tensors.shapes[key] == shapes[name]
                   and key.rpartition(".")[2] == name.rpartition(".")[2]]  # fmt: skip
        if len(fitting) == 1 and sum(shapes[one] == shapes[name] for one in left) == 1:
            matched[name] = fitting[0]
    return matched
