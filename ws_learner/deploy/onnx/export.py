"""ONNX files that run in onnxruntime: dense, masked or cropped networks, in FP32 or INT8."""

from __future__ import annotations

import contextlib
import importlib
import importlib.util
import io
import logging
import warnings
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from ws_learner.core import AnyPath, UserError, as_path, say, write_with
from ws_learner.deploy.copies import evaluating, unwrapped
from ws_learner.deploy.onnx.tidy import tidy
from ws_learner.deploy.other_inputs import first_difference, tensors_in
from ws_learner.deploy.runtime.output_comparison import tensors_of
from ws_learner.deploy.shrinking.crop import float_outputs
from ws_learner.training import FakeQuantizer, whole_weights

__all__ = [
    *(
        "Example",
        "check_onnx",
        "export_int8",
        "export_onnx",
        "require_packages",
        "relative_output_difference",
        "run_onnx",
    ),
    "values_of",
]

Example = Mapping[str, Tensor] | Sequence[Tensor] | Tensor


class _Plain(nn.Module):
    """Takes the tensors of an example by position, returns a tuple of tensors."""

    def __init__(self, model: nn.Module, example: Example) -> None:
        super().__init__()
        self.model, self.example = model, example

    def forward(self, *inputs: Tensor) -> tuple[Tensor, ...]:
        """Run the model."""
        given = _filled(self.example, iter(inputs))
        result: Any = self.model(**given) if isinstance(given, dict) else self.model(*given)
        return tuple(tensors_of(result))


def _filled(structure: Any, tensors: Iterator[Tensor]) -> Any:
    """The same structure with other tensors."""
    if isinstance(structure, Tensor):
        return next(tensors)
    if isinstance(structure, Mapping):
        return {name: _filled(part, tensors) for name, part in structure.items()}
    if isinstance(structure, list | tuple):
        return [_filled(part, tensors) for part in structure]
    return structure


def export_onnx(model: nn.Module, example: Example, path: AnyPath) -> None:
    """Write the network; the number of examples in a batch stays open where that is possible.

    Where onnxruntime is installed, the file's outputs are compared with the network's, on the
    example and on inputs of other values and, if the number is open, of another number.

    Args:
        model: In any mode; evaluation mode is exported.
        example: One or more arguments of a forward pass, at least two examples.
        path: The file.

    Raises:
        UserError: The packages for ONNX are missing, an operation cannot be exported, or the
            file's outputs are others; then nothing is written.
    """
    path = as_path(path)
    program, open_ = _program(model, example)
    write_with(path, lambda temporary: _write_checked(program, temporary, model, example, open_))


def _write_checked(
    program: Any, path: Path, model: nn.Module, example: Example, open_: bool
) -> None:
    _save(program, path)
    if importlib.util.find_spec("onnxruntime") is None:
        say("ONNX: onnxruntime is not installed, so that the file was not compared")
        return
    given = (example,) if isinstance(example, Tensor) else example
    size = {value.shape[0] for value in values_of(example) if value.dim()}

    def run(inputs: Any) -> list[Tensor]:
        fixed = {value.shape[0] for value in values_of(inputs) if value.dim()} == size
        if not open_ and not fixed:
            raise _FixedBatch
        return float_outputs(model, inputs)

    found = first_difference(run, lambda inputs: run_onnx(path, inputs), given)
    if found and "NOT_IMPLEMENTED" in found:
        raise UserError(
            f"ONNX export of {type(model).__name__}: ONNX Runtime has no kernel for a part of it: "
            f"{found}; number types other than float32 are the usual reason"
        )
    if found:
        raise UserError(
            f"ONNX export of {type(model).__name__}: the file is another network: {found}; its "
            "forward pass may depend on values or on the number of examples"
        )


def _save(program: Any, path: Path) -> None:
    program.save(str(path))
    tidy(path)


class _FixedBatch(Exception):  # noqa: N818  (a signal, not an error)
    """The file takes one number of examples only."""


def _program(model: nn.Module, example: Example) -> tuple[Any, bool]:
    """The exported program, and whether the number of examples is open."""
    require_packages("onnx", "onnxscript")
    inputs = tuple(values_of(example))
    if not inputs:
        raise UserError("ONNX export: the example holds no tensor; give the network's arguments")
    flat = isinstance(example, Mapping) and len(example) == len(inputs)
    labels = [str(name) for name in example] if flat else _numbered(inputs)
    network, _ = unwrapped(model)
    _check_types(network)
    plain = _Plain(network, (example,) if isinstance(example, Tensor) else example)
    open_ = tuple({0: torch.export.Dim.DYNAMIC} if x.dim() else {} for x in inputs)
    with evaluating(network):
        try:
            return _export(plain, inputs, labels, shapes=(open_,)), True
        except Exception:  # torch.export raises its own errors and whatever a model does
            pass
        try:
            program = _export(plain, inputs, labels, shapes=None)
        except Exception as error:
            raise UserError(
                f"ONNX export of {type(network).__name__} failed: {_cause(error)}; write that part "
                "with other operations or save the weights alone; with a transformers model, try "
                'attn_implementation="eager"'
            ) from error
    say(f"ONNX: the file takes batches of {len(inputs[0])} examples only")
    return program, False


def _numbered(inputs: Sequence[Tensor]) -> list[str]:
    return [f"input_{number}" for number in range(len(inputs))]


def _check_types(model: nn.Module) -> None:
    """Check what ONNX Runtime or torch.export cannot take.

    Raises:
        UserError: A weight is bfloat16 or complex, or a module is scripted or quantised.
    """
    name = type(model).__name__
    for kind in sorted({str(p.dtype).removeprefix("torch.") for p in model.parameters()}):
        if kind == "bfloat16" or kind.startswith("complex"):
            remedy = "; give model.float() and such inputs" if kind == "bfloat16" else ""
            raise UserError(
                f"ONNX export of {name}: ONNX Runtime has no kernels for weights of {kind}{remedy}"
            )
    for place, module in model.named_modules():
        where = f"{place or 'the network'} ({type(module).__name__})"
        if isinstance(module, torch.jit.ScriptModule):
            raise UserError(f"ONNX export: {where} is scripted or traced; export it before that")
        if ".quantized" in type(module).__module__:
            raise UserError(f"ONNX export: {where} is quantised; export the float network instead")


def _cause(error: BaseException) -> str:
    """The first line of the error that lies below the exporter's own."""
    while error.__cause__ is not None:
        error = error.__cause__
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return f"{type(error).__name__} ({lines[0] if lines else 'no message'})"


def _export(plain: nn.Module, inputs: tuple[Tensor, ...], labels: list[str], shapes: Any) -> Any:
    with _quietly():
        return torch.onnx.export(
            plain,
            inputs,
            input_names=labels,
            dynamo=True,
            dynamic_shapes=shapes,
            verbose=False,
        )


@contextlib.contextmanager
def _quietly() -> Iterator[None]:
    """Silence exporter warnings that do not concern the user."""
    loggers = [logging.getLogger(name) for name in ("torch.onnx", "onnxscript", "onnx_ir")]
    levels = [logger.level for logger in loggers]
    with warnings.catch_warnings(), contextlib.redirect_stderr(io.StringIO()):
        warnings.simplefilter("ignore")
        for logger in loggers:
            logger.setLevel(logging.ERROR)
        try:
            yield
        finally:
            for logger, level in zip(loggers, levels, strict=True):
                logger.setLevel(level)


def export_int8(quantizer: FakeQuantizer, example: Example, path: AnyPath) -> None:
    """Write a quantised network: INT8 weights, QuantizeLinear and DequantizeLinear around them.

    Each layer is a Gemm of rows with an INT32 bias, as engines fuse it (see `onnx_qdq`).

    Raises:
        UserError: See `export_onnx`.
    """
    path = as_path(path)
    own = {name: vars(layer)["forward"] for name, layer in quantizer.layers.items()}
    constants: dict[str, dict[str, Tensor]] = {}
    for name, layer in quantizer.layers.items():
        constants[name] = _constants(quantizer, name, layer)
        for key, value in constants[name].items():
            layer.register_buffer(f"int8_{key}", value.cpu(), persistent=False)
        layer.forward = _QuantisedLinear(layer)  # type: ignore[assignment,method-assign]
    try:
        program, _ = _program(quantizer.model, example)
        write_with(path, lambda temporary: _save(program, temporary))
    finally:
        for name, layer in quantizer.layers.items():
            layer.forward = own[name]  # type: ignore[method-assign]
            for key in constants[name]:
                delattr(layer, f"int8_{key}")


def _constants(quantizer: FakeQuantizer, name: str, layer: nn.Linear) -> dict[str, Tensor]:
    """Whole numbers and scales of a layer; of the bias the scale is that of the products."""
    scale, zero, least, _ = quantizer.activation(name)
    kind = torch.int8 if least < 0 else torch.uint8
    whole, scales = whole_weights(quantizer, name)
    bias = torch.zeros(len(scales)) if layer.bias is None else layer.bias.detach().cpu()
    if not bool(layer.weight.isfinite().all() and bias.isfinite().all()):
        raise UserError(f"INT8 ONNX: a weight or bias of {name} is not finite; train it again")
    # A row of zeros, or of next to nothing, has a scale in which its bias would not fit 32 bits.
    fitting = torch.maximum(scales.cpu(), bias.abs() / (scale * 2.0**30))
    whole = (whole.cpu() * (scales.cpu() / fitting)[:, None]).round().to(torch.int8)
    joint = fitting * scale
    return {
        "scale": torch.tensor(scale),
        "zero": torch.tensor(zero, dtype=kind),
        "weight": whole,
        "scales": fitting,
        "zeros": torch.zeros(len(scales), dtype=torch.int8),
        "bias": (bias.double() / joint).round().to(torch.int32),
        "joint": joint,
        "nothing": torch.zeros(len(scales), dtype=torch.int32),
    }


class _QuantisedLinear:
    """The forward pass of a Linear layer in ONNX's quantised operators."""

    def __init__(self, layer: nn.Linear) -> None:
        self._layer = layer

    def __call__(self, inputs: Tensor) -> Tensor:
        layer: Any = self._layer
        rows = inputs.reshape(-1, layer.in_features)
        near = _onnx("QuantizeLinear", rows, layer.int8_scale, layer.int8_zero)
        near = _onnx("DequantizeLinear", near, layer.int8_scale, layer.int8_zero)
        weight = _onnx(
            "DequantizeLinear", layer.int8_weight, layer.int8_scales, layer.int8_zeros, axis=0
        )
        bias = _onnx(
            "DequantizeLinear", layer.int8_bias, layer.int8_joint, layer.int8_nothing, axis=0
        )
        made: Tensor = torch.onnx.ops.symbolic(
            "Gemm",
            (near, weight, bias),
            attrs={"transB": 1},
            dtype=torch.float32,
            shape=(rows.shape[0], layer.out_features),
            version=18,
        )
        return made.reshape(*inputs.shape[:-1], layer.out_features)


def _onnx(name: str, values: Tensor, scale: Tensor, zero: Tensor, **attributes: int) -> Tensor:
    kind = zero.dtype if name == "QuantizeLinear" else torch.float32
    attrs: dict[str, Any] = dict(attributes)
    made: Tensor = torch.onnx.ops.symbolic(
        name, (values, scale, zero), attrs=attrs, dtype=kind, shape=values.shape, version=18
    )
    return made


def run_onnx(path: Path | str, example: Example) -> list[Tensor]:
    """Run a file on the CPU.

    Raises:
        UserError: onnxruntime is missing.
    """
    runtime = require_packages("onnxruntime")
    session = runtime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    values = values_of(example)
    names = [entry.name for entry in session.get_inputs()]
    feed = {name: value.numpy() for name, value in zip(names, values, strict=True)}
    return [torch.from_numpy(output) for output in session.run(None, feed)]


def check_onnx(model: nn.Module, example: Example, path: AnyPath) -> float:
    """Largest difference between the file's outputs and the network's."""
    path = as_path(path)
    given = (example,) if isinstance(example, Tensor) else example
    pairs = zip(float_outputs(model, given), run_onnx(path, given), strict=True)
    return max(float((mine - other).abs().max()) for mine, other in pairs)


def relative_output_difference(path: Path | str, example: Example, wanted: Tensor) -> float:
    """Norm of the difference between the file's first output and `wanted`, over its norm."""
    got = run_onnx(path, example)[0]
    return float((got - wanted).norm() / wanted.norm().clamp_min(1e-30))


def values_of(example: Example) -> list[Tensor]:
    """The tensors of a forward pass's arguments, in order."""
    return list(tensors_in(example))


def require_packages(*packages: str) -> Any:
    """Import packages of the extra `onnx`; return the first.

    Raises:
        UserError: One is missing.
    """
    try:
        modules = [importlib.import_module(package) for package in packages]
    except ImportError as error:
        raise UserError(f"ONNX needs {' and '.join(packages)}: pip install -e '.[onnx]'") from error
    return modules[0]
