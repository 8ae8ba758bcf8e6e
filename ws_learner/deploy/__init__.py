"""Deployment of sparse networks: structured shrinking, ONNX export, sparse CPU inference."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ws_learner.core.lazy import lazy_names

if TYPE_CHECKING:
    from ws_learner.deploy.costs.bytes_costs import BytesCosts, network_bytes
    from ws_learner.deploy.costs.cost_source import cost_source
    from ws_learner.deploy.costs.engine_layers import EngineUnitCosts, engine_unit_costs
    from ws_learner.deploy.costs.engines import ENGINES, check_engine, installed_engines
    from ws_learner.deploy.costs.latency import (
        Latency,
        Pace,
        dense_latency,
        dense_paces,
        measure_latency,
        measure_together,
    )
    from ws_learner.deploy.costs.measure import measure_costs
    from ws_learner.deploy.costs.network_ms import engine_run, network_ms, shrunk_ms
    from ws_learner.deploy.costs.source import MeasuredCosts
    from ws_learner.deploy.costs.table import CostTable
    from ws_learner.deploy.decode.language_model import (
        SparseLM,
        compile_sparse_lm,
        load_sparse_lm,
    )
    from ws_learner.deploy.decode.sampling import Sampling
    from ws_learner.deploy.folder.write import write_deploy_folder
    from ws_learner.deploy.onnx.export import check_onnx, export_int8, export_onnx
    from ws_learner.deploy.onnx.int8_qdq import export_qdq
    from ws_learner.deploy.onnx.verify import engine_differences
    from ws_learner.deploy.runtime.candidates import largest_block
    from ws_learner.deploy.runtime.codegen.cpu import cpu_key
    from ws_learner.deploy.runtime.codegen.pairs import PairProducts
    from ws_learner.deploy.runtime.compile import compile_sparse
    from ws_learner.deploy.runtime.compiled import CompiledModel
    from ws_learner.deploy.runtime.graph import find_sites, layer_data, observers
    from ws_learner.deploy.runtime.load import load_sparse
    from ws_learner.deploy.runtime.wsr_file import read_wsr, write_wsr
    from ws_learner.deploy.shrinking.crop import crop
    from ws_learner.deploy.shrinking.crop_report import crop_run
    from ws_learner.deploy.shrinking.cropped_file import load_cropped, save_cropped
    from ws_learner.deploy.shrinking.find_units import FoundUnits, find_coupled_units
    from ws_learner.deploy.shrinking.permute_mlp import permute_mlps
    from ws_learner.deploy.shrinking.remove_dead import remove_dead
    from ws_learner.deploy.shrinking.semi_structured import to_semi_structured
    from ws_learner.deploy.shrinking.shrink import shrink
    from ws_learner.deploy.shrinking.shrunk_file import load_shrunk, save_shrunk
    from ws_learner.deploy.shrinking.split_attention import split_attention

__all__ = [
    "ENGINES",
    "BytesCosts",
    "CompiledModel",
    "CostTable",
    "EngineUnitCosts",
    "FoundUnits",
    "Latency",
    "MeasuredCosts",
    "Pace",
    "PairProducts",
    "Sampling",
    "SparseLM",
    "check_engine",
    "check_onnx",
    "compile_sparse",
    "compile_sparse_lm",
    "cost_source",
    "cpu_key",
    "crop",
    "crop_run",
    "dense_latency",
    "dense_paces",
    "engine_differences",
    "engine_run",
    "engine_unit_costs",
    "export_int8",
    "export_onnx",
    "export_qdq",
    "find_coupled_units",
    "find_sites",
    "installed_engines",
    "largest_block",
    "layer_data",
    "load_cropped",
    "load_shrunk",
    "load_sparse",
    "load_sparse_lm",
    "measure_costs",
    "measure_latency",
    "measure_together",
    "network_bytes",
    "network_ms",
    "observers",
    "permute_mlps",
    "read_wsr",
    "remove_dead",
    "save_cropped",
    "save_shrunk",
    "shrink",
    "shrunk_ms",
    "split_attention",
    "to_semi_structured",
    "write_deploy_folder",
    "write_wsr",
]

_MODULES = {
    "decode.language_model": [
        "SparseLM",
        "compile_sparse_lm",
        "load_sparse_lm",
    ],
    "decode.sampling": [
        "Sampling",
    ],
    "shrinking.remove_dead": [
        "remove_dead",
    ],
    "folder.write": [
        "write_deploy_folder",
    ],
    "costs.network_ms": [
        "engine_run",
        "network_ms",
        "shrunk_ms",
    ],
    "costs.engine_layers": [
        "EngineUnitCosts",
        "engine_unit_costs",
    ],
    "shrinking.find_units": [
        "FoundUnits",
        "find_coupled_units",
    ],
    "costs.source": [
        "MeasuredCosts",
    ],
    "costs.bytes_costs": [
        "BytesCosts",
        "network_bytes",
    ],
    "costs.cost_source": [
        "cost_source",
    ],
    "costs.engines": [
        "ENGINES",
        "check_engine",
        "installed_engines",
    ],
    "costs.latency": [
        "Latency",
        "Pace",
        "dense_latency",
        "dense_paces",
        "measure_latency",
        "measure_together",
    ],
    "costs.measure": [
        "measure_costs",
    ],
    "costs.table": [
        "CostTable",
    ],
    "onnx.export": [
        "check_onnx",
        "export_int8",
        "export_onnx",
    ],
    "onnx.int8_qdq": [
        "export_qdq",
    ],
    "onnx.verify": [
        "engine_differences",
    ],
    "runtime.candidates": [
        "largest_block",
    ],
    "runtime.codegen.cpu": [
        "cpu_key",
    ],
    "runtime.codegen.pairs": [
        "PairProducts",
    ],
    "runtime.compile": [
        "compile_sparse",
    ],
    "runtime.compiled": [
        "CompiledModel",
    ],
    "runtime.graph": [
        "find_sites",
        "layer_data",
        "observers",
    ],
    "runtime.load": [
        "load_sparse",
    ],
    "runtime.wsr_file": [
        "read_wsr",
        "write_wsr",
    ],
    "shrinking.crop": [
        "crop",
    ],
    "shrinking.crop_report": [
        "crop_run",
    ],
    "shrinking.cropped_file": [
        "load_cropped",
        "save_cropped",
    ],
    "shrinking.permute_mlp": [
        "permute_mlps",
    ],
    "shrinking.semi_structured": [
        "to_semi_structured",
    ],
    "shrinking.shrink": [
        "shrink",
    ],
    "shrinking.shrunk_file": [
        "load_shrunk",
        "save_shrunk",
    ],
    "shrinking.split_attention": [
        "split_attention",
    ],
}

__getattr__, __dir__ = lazy_names(__name__, _MODULES)
