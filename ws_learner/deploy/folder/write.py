"""Write a deploy folder: model file, loader, example and facts, tried in a fresh process."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

import numpy as np
import torch
from torch import nn

from ws_learner.core import (
    AnyPath,
    Inputs,
    UserError,
    as_path,
    call_model,
    say,
    sha256_of,
    write_json,
    write_text,
)
from ws_learner.deploy.folder.engines import ENGINES, Request, check_request, open_file, write_file
from ws_learner.deploy.folder.example import (
    counts,
    dense_outputs,
    described,
    example_tensors,
    names_of,
)
from ws_learner.deploy.folder.fresh_process import try_folder
from ws_learner.deploy.folder.latency import median_ms
from ws_learner.deploy.folder.loader_text import loader_text
from ws_learner.deploy.folder.staging import MADE_BY, refuse_foreign, staged
from ws_learner.deploy.folder.surroundings import machine_facts, versions
from ws_learner.deploy.other_inputs import MOST_DIFFERENCE
from ws_learner.deploy.runtime.compile import torch_threads
from ws_learner.deploy.runtime.output_comparison import differences
from ws_learner.deploy.shrinking.remove_dead import remove_dead

__all__ = ["write_deploy_folder"]

_MOST_BYTES_ERROR = 0.5


def write_deploy_folder(
    model: nn.Module,
    example_inputs: Inputs,
    folder: AnyPath,
    *,
    engine: str = "wsr",
    dtype: str | Mapping[str, str] = "fp32",
    calibration: Iterable[Any] | None = None,
    threads: int = 1,
    shrinks: bool = True,
    budget: str | None = None,
    predicted_ms: float | None = None,
    facts: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """Write a folder that a program without training code can load, and try it.

    The folder holds the model's file, `load.py` (a loader of a few lines; run as a program it
    checks and times the network), `example.npz` (an example and PyTorch's outputs for it) and
    `deploy.json`. It is opened again in a fresh process; the outputs there must be those of the
    network. It appears whole or not at all.

    | `engine` | file | opened by |
    |---|---|---|
    | `wsr` | model.wsr | `ws_learner.deploy.load_sparse`, without the model's class |
    | `onnxruntime`, `openvino` | model.onnx | the engine |
    | `torch` | model.pt2 | `torch.export.load` |

    Args:
        model: The pruned network, with float32 weights; not changed.
        example_inputs: A batch as the network takes it, of the size that it is timed with.
        folder: Made; an earlier deploy folder there is replaced, anything else is refused.
        engine: As above.
        dtype: `fp32`; `int8`; for wsr also `auto`, or a format for each layer.
        calibration: Batches of inputs that show the range of activations; for bytes.
        threads: That the engine uses.
        shrinks: Cut out dead channels, heads and neurons first, where they can be found.
        budget: What the network was to cost, for the record.
        predicted_ms: Milliseconds that were predicted for it, for the record.
        facts: Further entries of `deploy.json`, of JSON's types, such as accuracies.

    Returns:
        The contents of `deploy.json`. `pytorch_ms` is the time of `model` in PyTorch on as many
        threads, where its zeros gain nothing: that of the dense network.

    Raises:
        UserError: The engine cannot take the network, its outputs are others, or the folder is
            not ours; nothing is left then.
    """
    folder = as_path(folder, name="folder")
    request = check_request(engine, dtype, threads=threads, calibration=calibration)
    inputs = example_tensors(example_inputs)
    refuse_foreign(folder)
    wanted = dense_outputs(model, example_inputs)
    small = remove_dead(model, example_inputs) if shrinks else model
    with staged(folder) as made:
        path = made / ENGINES[engine]
        about = write_file(small, example_inputs, path, request)
        arrays = [x.numpy() for x in inputs]
        run = open_file(path, request.engine, threads=threads)
        found = [torch.from_numpy(np.array(x)) for x in run(arrays)]
        error = differences([(found, wanted)])["relative_error"]
        tolerance = _tolerance(error, request)
        with torch_threads(threads):
            measured = median_ms(
                lambda: run(arrays), threads=threads, own_threads=engine == "openvino"
            )
            in_pytorch = median_ms(
                _in_pytorch(model, example_inputs), threads=threads, own_threads=False
            )
        record = {
            "made_by": MADE_BY,
            "network": type(model).__name__,
            "engine": engine,
            "dtype": dtype if isinstance(dtype, str) else dict(dtype),
            "batch": len(inputs[0]),
            "threads": threads,
            "budget": budget,
            "predicted_ms": predicted_ms,
            "measured_ms": measured,
            "pytorch_ms": in_pytorch,
            "bytes": path.stat().st_size,
            **counts(model, example_inputs),
            **about,
            "inputs": described(inputs, names_of(example_inputs)),
            "outputs": described(wanted, None),
            "relative_error": error,
            "tolerance": tolerance,
            "versions": versions(),
            "machine": machine_facts(),
            **(facts or {}),
        }
        saved = {f"input_{i}": x for i, x in enumerate(arrays)}
        saved |= {f"output_{i}": x.numpy() for i, x in enumerate(wanted)}
        np.savez(made / "example.npz", allow_pickle=False, **saved)
        digest = sha256_of(path)
        text = loader_text(engine, file=path.name, digest=digest, threads=threads)
        write_text(made / "load.py", text)
        record["sha256"] = {name: sha256_of(made / name) for name in (path.name, "example.npz")}
        write_json(made / "deploy.json", record)
        say(try_folder(made, threads=threads))
    return record


def _tolerance(error: float, request: Request) -> float:
    """Relative difference that is allowed; bytes may be off by twice what they are now."""
    bytes_ = request.dtype != "fp32"
    if not error <= (_MOST_BYTES_ERROR if bytes_ else MOST_DIFFERENCE):
        remedy = "`dtype` fp32, or more calibration" if bytes_ else "another engine"
        raise UserError(
            f"`engine` {request.engine}: its outputs differ from PyTorch's by {error:.2g} of their "
            f"size; give {remedy}"
        )
    return max(MOST_DIFFERENCE, 2 * error) if bytes_ else MOST_DIFFERENCE


def _in_pytorch(model: nn.Module, example_inputs: Inputs) -> Callable[[], object]:
    def call() -> object:
        with torch.inference_mode():
            return call_model(model, example_inputs)

    return call
