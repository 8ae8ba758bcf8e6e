"""What PyTorch's exporter leaves in a file that no engine reads."""

from __future__ import annotations

from pathlib import Path

__all__ = ["tidy"]


def tidy(path: Path) -> None:
    """Drop notes for debugging, and the shapes of weights, which stand beside the weights as well.

    The notes are lines of the source code that made each node, with its folders: half of the file
    of a small network. The second copy of the shapes makes onnxruntime's `quantize_dynamic` fail,
    which transposes weights and does not change it.
    """
    import onnx

    model = onnx.load(str(path), load_external_data=False)
    graph = model.graph
    weights = {tensor.name for tensor in graph.initializer}
    shapes = [info for info in graph.value_info if info.name not in weights]
    del graph.value_info[:]
    graph.value_info.extend(shapes)
    noted = [model, graph, *graph.node, *graph.initializer, *graph.value_info]
    noted += [*graph.input, *graph.output, *model.functions]
    noted += [node for function in model.functions for node in function.node]
    for part in noted:
        del part.metadata_props[:]
    path.write_bytes(model.SerializeToString())
