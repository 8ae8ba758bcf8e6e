"""The text of `load.py`, which opens a deploy folder without training code."""

from __future__ import annotations

__all__ = ["loader_text"]

_HEAD = '''\
"""The network of this folder. It needs {needs}, and no training code.

    from load import load
    network = load()
    outputs = network(*inputs)  # {kinds}, in the order that deploy.json lists them

`python load.py` runs it on the saved example, compares the outputs and times it.
"""

import hashlib
import json
import pathlib
import sys
import time

import numpy as np
{imports}
FOLDER = pathlib.Path(__file__).resolve().parent
DIGEST = "{digest}"


def load(threads={threads}):
    """Open {file}, if it is the file that was exported."""
    path = FOLDER / "{file}"
    if hashlib.sha256(path.read_bytes()).hexdigest() != DIGEST:
        raise SystemExit(f"{{path}} is damaged or another file (SHA-256 differs); export it again")
{body}

'''
_TAIL = '''
def call(network, arrays):
    """Run the network on arrays; return its outputs as arrays."""
{call}

def main():
    """Check and time the network on the example; return 0, or 1 if its outputs are others."""
    facts = json.loads((FOLDER / "deploy.json").read_text())
    with np.load(FOLDER / "example.npz") as saved:
        arrays = [saved[f"input_{i}"] for i in range(len(facts["inputs"]))]
        wanted = [saved[f"output_{i}"] for i in range(len(facts["outputs"]))]
    network = load()
    found = call(network, arrays)
    errors = []
    for got, right in zip(found, wanted, strict=True):
        if got.shape != right.shape:
            raise SystemExit(f"an output has the shape {got.shape} instead of {right.shape}")
        errors.append(np.linalg.norm(got - right) / max(np.linalg.norm(right), 1e-12))
    measured, times = facts["measured_ms"], []
    clock = time.thread_time if measured["clock"] == "processor" else time.perf_counter
    for _ in range(33):
        begun = clock()
        call(network, arrays)
        times.append(1000 * (clock() - begun))
    print("outputs", *(got.shape for got in found))
    here, then = np.median(times[3:]), measured["median"]
    print(f"{here:.3f} ms here, {then:.3f} ms at export ({measured['clock']} time)")
    print(f"relative error {np.max(errors):.2g}, allowed {facts['tolerance']:.2g}")
    return 0 if all(error <= facts["tolerance"] for error in errors) else 1


if __name__ == "__main__":
    sys.exit(main())
'''
_BODIES = {
    "wsr": """\
    from ws_learner.deploy import load_sparse

    torch.set_num_threads(threads)
    return load_sparse(path, threads=threads)""",
    "torch": """\
    torch.set_num_threads(threads)
    return torch.export.load(path).module()""",
    "onnxruntime": """\
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    names = [entry.name for entry in session.get_inputs()]
    return lambda *arrays: session.run(None, dict(zip(names, arrays, strict=True)))""",
    "openvino": """\
    settings = {"INFERENCE_PRECISION_HINT": "f32", "INFERENCE_NUM_THREADS": threads}
    compiled = openvino.Core().compile_model(path, "CPU", settings)
    return lambda *arrays: list(compiled(list(arrays)).values())""",
}
_CALL_TORCH = """\
    with torch.no_grad():
        found = network(*map(torch.from_numpy, arrays))
    return [x.numpy() for x in (found if isinstance(found, tuple) else (found,))]
"""
_CALL_PLAIN = """\
    return network(*arrays)
"""
_NEEDS = {
    "wsr": "ws_learner (its sparse runtime)",
    "torch": "PyTorch",
    "onnxruntime": "onnxruntime",
    "openvino": "openvino",
}


def loader_text(engine: str, *, file: str, digest: str, threads: int) -> str:
    """The file's text for an engine.

    Args:
        engine: See `DeployEngine`.
        file: The model's file in the folder.
        digest: Its SHA-256.
        threads: That `load` uses if it is not told another number.
    """
    tensors = engine in ("wsr", "torch")
    module = "torch" if tensors else engine
    head = _HEAD.format(
        needs=_NEEDS[engine],
        kinds="tensors" if tensors else "arrays",
        imports=f"import {module}\n",
        digest=digest,
        threads=threads,
        file=file,
        body=_BODIES[engine],
    )
    return head + _TAIL.replace("{call}", _CALL_TORCH if tensors else _CALL_PLAIN)
