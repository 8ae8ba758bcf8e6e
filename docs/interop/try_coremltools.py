"""coremltools: conversion, sparse weights, the smallest layer it prunes. Saved, not run."""

import logging
import warnings

import coremltools
import coremltools.optimize.coreml as optimize
import numpy as np
import torch
from common import FOLDER, example, row, size
from networks import conv, mlp
from safetensors.torch import load_file

TOOL = "coremltools"
logging.disable(logging.CRITICAL)
warnings.simplefilter("ignore")


def convert(model: torch.nn.Module, name: str, **options):
    x = torch.from_numpy(example(name)[0])
    given = [coremltools.TensorType(shape=tuple(x.shape))]
    return coremltools.convert(
        torch.jit.trace(model.eval(), x),
        inputs=given,
        minimum_deployment_target=coremltools.target.iOS17,
        **options,
    )


def saved(model) -> int:
    model.save(str(FOLDER / "net.mlpackage"))
    return size(FOLDER / "net.mlpackage")


def plain(model) -> list[tuple[tuple[int, ...], int]]:
    """Shapes and zeros of matrices and filters that are stored as plain constants."""
    held = []
    for operation in model._mil_program.functions["main"].operations:
        value = operation.outputs[0].val if operation.op_type == "const" else None
        if value is not None and np.ndim(value) > 1 and np.size(value) > 64:
            held.append((np.shape(value), int((np.asarray(value) == 0).sum())))
    return held


network = conv()
dense = saved(convert(network, "dense"))
network.load_state_dict(load_file("conv.safetensors"))
zero = sum(int((p == 0).sum()) for p in network.parameters() if p.ndim > 1)
model = convert(network, "conv")
held = sum(count for _, count in plain(model))
row(TOOL, "conv.safetensors", "zeros after conversion to FP16", f"{held} of {zero}")
row(TOOL, "conv.safetensors", "file, as it comes", f"{saved(model) / dense:.2f} of the dense one")
pipeline = coremltools.PassPipeline.DEFAULT_PRUNING
sparse = convert(network, "conv", pass_pipeline=pipeline)
row(
    TOOL,
    "conv.safetensors",
    "file with PassPipeline.DEFAULT_PRUNING",
    f"{saved(sparse) / dense:.2f} of the dense one",
)
pruned = optimize.prune_weights(
    model,
    optimize.OptimizationConfig(global_config=optimize.OpThresholdPrunerConfig(threshold=1e-12)),
)
row(
    TOOL,
    "conv.safetensors",
    "file after prune_weights, threshold 1e-12",
    f"{saved(pruned) / dense:.2f} of the dense one",
)
back = plain(optimize.decompress_weights(pruned))
row(
    TOOL,
    "conv.safetensors",
    "zeros after prune_weights and back",
    f"{sum(count for _, count in back)} of {zero}",
)

network = torch.nn.Sequential(torch.nn.Linear(256, 64), torch.nn.ReLU(), torch.nn.Linear(64, 16))
model = convert(network, "nm")
pruned = optimize.prune_weights(
    model,
    optimize.OptimizationConfig(
        global_config=optimize.OpMagnitudePrunerConfig(target_sparsity=0.75)
    ),
)
row(
    TOOL,
    "256-64-16",
    "matrices that prune_weights leaves dense",
    str([shape for shape, _ in plain(pruned)]),
)
network = mlp()
network.load_state_dict(load_file("nm.safetensors"))
model = convert(network, "nm")
first = saved(model)
for mode in ("linear_symmetric", "linear"):
    quantised = optimize.linear_quantize_weights(
        model,
        optimize.OptimizationConfig(global_config=optimize.OpLinearQuantizerConfig(mode=mode)),
    )
    zeros = dict(plain(optimize.decompress_weights(quantised))).get((512, 512), 0)
    text = f"{zeros} of {512 * 256} in a matrix; file {saved(quantised) / first:.2f}"
    row(TOOL, "nm.safetensors", f"zeros after 8 bits, {mode}", text)
