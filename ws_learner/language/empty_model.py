"""Networks of transformers whose parameters have shapes but no memory."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import nn

from ws_learner.core import UserError, check_saved_config, reason_of
from ws_learner.language.transformers_import import import_transformers, quiet

__all__ = ["META", "empty_model"]

META = torch.device("meta")


def empty_model(folder: Path) -> Any:
    """A folder's network whose parameters have shapes but no memory; no code of the folder runs.

    Raises:
        UserError: The folder holds no causal language model, or one that is quantised.
    """
    transformers = import_transformers()
    source = f"`model` hf:{folder}"
    if not folder.is_dir():
        raise UserError(
            f"{source}: no such folder; nothing is downloaded, so save the network there with "
            "model.save_pretrained(folder)"
        )
    if not (folder / "config.json").is_file():
        raise UserError(f"{source}: no config.json in it; save it with model.save_pretrained")
    check_saved_config(folder, source=f"hf:{folder}")
    try:
        with quiet():
            config = transformers.AutoConfig.from_pretrained(
                folder, local_files_only=True, trust_remote_code=False
            )
            if getattr(config, "quantization_config", None):
                raise UserError(f"{source}: its weights are quantised; save it in 16 or 32 bits")
            with _parameters_without_memory():
                model = transformers.AutoModelForCausalLM.from_config(
                    config, trust_remote_code=False, dtype=torch.float32
                )
    except UserError:
        raise
    except Exception as error:  # many kinds; one line tells all
        reason = reason_of(error)
        if "Unrecognized configuration class" in reason:
            reason = "transformers knows no causal language model with its config.json"
        raise UserError(f"{source}: cannot be opened: {reason}") from error
    return model.eval().requires_grad_(False)


@contextmanager
def _parameters_without_memory() -> Iterator[None]:
    """Inside, parameters of new modules are on `meta`; buffers, such as rotary tables, are not."""
    register = nn.Module.register_parameter

    def register_empty(module: nn.Module, name: str, parameter: nn.Parameter | None) -> None:
        if parameter is not None and parameter.device != META:
            parameter = nn.Parameter(parameter.to(META), requires_grad=False)
        register(module, name, parameter)

    nn.Module.register_parameter = register_empty  # type: ignore[method-assign, assignment]
    try:
        yield
    finally:
        nn.Module.register_parameter = register  # type: ignore[method-assign]
