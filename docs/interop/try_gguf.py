"""gguf: tensors of a safetensors file written, quantised and read back."""

import gguf
import numpy as np
from common import row, size, zeros
from safetensors.numpy import load_file

TOOL = "gguf"
state = load_file("nm.safetensors")
KINDS = ("F32", "F16", "BF16", "Q8_0", "Q5_0", "Q5_1", "Q4_0", "Q4_1", "TQ1_0", "TQ2_0", "MXFP4")
for kind in KINDS:
    chosen = getattr(gguf.GGMLQuantizationType, kind)
    writer = gguf.GGUFWriter("net.gguf", "none")
    for name, values in state.items():
        packed = values.ndim > 1
        data = gguf.quants.quantize(values, chosen) if packed else values
        writer.add_tensor(name, data, raw_dtype=chosen if packed else None)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    read = {
        t.name: gguf.quants.dequantize(t.data, t.tensor_type)
        for t in gguf.GGUFReader("net.gguf").tensors
    }
    row(TOOL, "nm.safetensors", f"zeros, {kind}", zeros(read, state))
    part = size("net.gguf") / size("nm.safetensors")
    row(TOOL, "nm.safetensors", f"file, {kind}", f"{part:.2f} of the safetensors file")
names = "the same" if set(read) == set(state) else str(sorted(read))
row(TOOL, "nm.safetensors", "names", names)
shape = next(t.shape for t in gguf.GGUFReader("net.gguf").tensors if t.name == "0.weight")
row(TOOL, "nm.safetensors", "shape of 512 x 256 in the file", " x ".join(map(str, shape)))
shrunk = load_file("shrunk.safetensors")
narrow = {n: w for n, w in shrunk.items() if w.ndim > 1}
failed = []
for name, values in narrow.items():
    try:
        gguf.quants.quantize(values.astype(np.float32), gguf.GGMLQuantizationType.Q8_0)
    except Exception as error:
        failed.append(f"{name} {values.shape}: {type(error).__name__}")
row(TOOL, "shrunk.safetensors", "Q8_0", "; ".join(failed) or "all")
