"""Foundations: errors, files, progress, devices, process groups, run directories."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ws_learner.core.lazy import lazy_names

if TYPE_CHECKING:
    from ws_learner.core.argument_checks import as_whole, check_kind
    from ws_learner.core.checkpoints import STATE_REMEDY, load_state_file, save_state_file
    from ws_learner.core.checksums import reading, sealed, unsealed
    from ws_learner.core.determinism import one_thread
    from ws_learner.core.device import ComputeDevice, choose_device, describe_machine
    from ws_learner.core.digests import (
        ValueDigest,
        forward_digest,
        state_digest,
        tensor_bytes,
        value_digest,
    )
    from ws_learner.core.elapsed import duration_text
    from ws_learner.core.errors import UserError, check_all, complain, plain_lines, suggest
    from ws_learner.core.expressions import Expression, compile_expression
    from ws_learner.core.files import (
        read_json,
        refuse_unwritable,
        remove_unfinished,
        sha256_of,
        write_bytes,
        write_json,
        write_text,
        write_with,
    )
    from ws_learner.core.held_locks import lock_holder
    from ws_learner.core.layer_choice import LayerChoice, LayerCosts, NumberFormat
    from ws_learner.core.layer_names import (
        by_layer,
        closest_names,
        name_fits,
        refuse_bad_patterns,
    )
    from ws_learner.core.layer_ratios import (
        cells_in_file,
        is_ratio_text,
        ratios_from,
        ratios_in_file,
    )
    from ws_learner.core.lazy import lazy_names
    from ws_learner.core.message_file import MESSAGES_FILE, keep_messages, remember_messages
    from ws_learner.core.messages import is_quiet, message_style, quiet, say, warn
    from ws_learner.core.model_calls import (
        Inputs,
        call_model,
        count_of,
        describe_output,
        device_of,
        main_output,
        map_tensors,
        rows_of,
        run_model,
        tensors_of,
        weight_type,
    )
    from ws_learner.core.model_failure import model_failure
    from ws_learner.core.moved import MOVED, install
    from ws_learner.core.output_kinds import OUTPUT_KINDS, OutputKind, check_output_kind
    from ws_learner.core.paths import AnyPath, as_path
    from ws_learner.core.percentages import plain_number, read_share, share_hint
    from ws_learner.core.pickling import importable, refuse_unpicklable
    from ws_learner.core.plain_yaml import PlainLoader, dump_yaml, load_yaml, read_yaml_file
    from ws_learner.core.precision import half_types, narrowed, tensor_types, widened
    from ws_learner.core.process_group import ProcessGroup, rank_slice
    from ws_learner.core.progress import Progress, track
    from ws_learner.core.progress_file import PROGRESS_FILE, log_progress
    from ws_learner.core.progress_phases import enter_phase, expect_phases, plan_phases
    from ws_learner.core.radix_select import Parts, in_parts, smallest_at, threshold_counts
    from ws_learner.core.run_dir import RunDir, folder_name, identity_hash, policy_path
    from ws_learner.core.run_summary import altered_results, check_result
    from ws_learner.core.saved_config import check_saved_config, reason_of
    from ws_learner.core.setting_checks import check_choice, check_settings, setting_problems
    from ws_learner.core.shown_values import shown, shown_repr
    from ws_learner.core.texts import MOST_BYTES, parse_json, read_text
    from ws_learner.core.unset import (
        FitsUnset,
        UnsetRule,
        adjusted_line,
        adjusted_values,
        chosen_settings,
    )
    from ws_learner.core.versions import library_versions
    from ws_learner.core.weights import (
        load_into,
        load_state,
        load_tensors,
        read_metadata,
        save_model,
        write_tensors,
    )

__all__ = [
    "MESSAGES_FILE",
    "MOST_BYTES",
    "MOVED",
    "OUTPUT_KINDS",
    "PROGRESS_FILE",
    "STATE_REMEDY",
    "AnyPath",
    "ComputeDevice",
    "Expression",
    "FitsUnset",
    "Inputs",
    "LayerChoice",
    "LayerCosts",
    "NumberFormat",
    "OutputKind",
    "Parts",
    "PlainLoader",
    "ProcessGroup",
    "Progress",
    "RunDir",
    "UnsetRule",
    "UserError",
    "ValueDigest",
    "adjusted_line",
    "adjusted_values",
    "altered_results",
    "as_path",
    "as_whole",
    "by_layer",
    "call_model",
    "cells_in_file",
    "check_all",
    "check_choice",
    "check_kind",
    "check_output_kind",
    "check_result",
    "check_saved_config",
    "check_settings",
    "choose_device",
    "chosen_settings",
    "closest_names",
    "compile_expression",
    "complain",
    "count_of",
    "describe_machine",
    "describe_output",
    "device_of",
    "dump_yaml",
    "duration_text",
    "enter_phase",
    "expect_phases",
    "folder_name",
    "forward_digest",
    "half_types",
    "identity_hash",
    "importable",
    "in_parts",
    "install",
    "is_quiet",
    "is_ratio_text",
    "keep_messages",
    "lazy_names",
    "library_versions",
    "load_into",
    "load_state",
    "load_state_file",
    "load_tensors",
    "load_yaml",
    "lock_holder",
    "log_progress",
    "main_output",
    "map_tensors",
    "message_style",
    "model_failure",
    "name_fits",
    "narrowed",
    "one_thread",
    "parse_json",
    "plain_lines",
    "plain_number",
    "plan_phases",
    "policy_path",
    "quiet",
    "rank_slice",
    "ratios_from",
    "ratios_in_file",
    "read_json",
    "read_metadata",
    "read_share",
    "read_text",
    "read_yaml_file",
    "reading",
    "reason_of",
    "refuse_bad_patterns",
    "refuse_unpicklable",
    "refuse_unwritable",
    "remember_messages",
    "remove_unfinished",
    "rows_of",
    "run_model",
    "save_model",
    "save_state_file",
    "say",
    "sealed",
    "setting_problems",
    "sha256_of",
    "share_hint",
    "shown",
    "shown_repr",
    "smallest_at",
    "state_digest",
    "suggest",
    "tensor_bytes",
    "tensor_types",
    "tensors_of",
    "threshold_counts",
    "track",
    "unsealed",
    "value_digest",
    "warn",
    "weight_type",
    "widened",
    "write_bytes",
    "write_json",
    "write_tensors",
    "write_text",
    "write_with",
]

_MODULES = {
    "argument_checks": [
        "as_whole",
        "check_kind",
    ],
    "checkpoints": [
        "STATE_REMEDY",
        "load_state_file",
        "save_state_file",
    ],
    "determinism": [
        "one_thread",
    ],
    "device": [
        "ComputeDevice",
        "choose_device",
        "describe_machine",
    ],
    "digests": [
        "ValueDigest",
        "forward_digest",
        "state_digest",
        "tensor_bytes",
        "value_digest",
    ],
    "errors": [
        "plain_lines",
        "UserError",
        "check_all",
        "complain",
        "suggest",
    ],
    "expressions": [
        "Expression",
        "compile_expression",
    ],
    "files": [
        "read_json",
        "sha256_of",
        "write_bytes",
        "write_json",
        "write_text",
        "write_with",
        "refuse_unwritable",
        "remove_unfinished",
    ],
    "held_locks": [
        "lock_holder",
    ],
    "layer_choice": [
        "LayerChoice",
        "LayerCosts",
        "NumberFormat",
    ],
    "layer_names": [
        "by_layer",
        "closest_names",
        "name_fits",
        "refuse_bad_patterns",
    ],
    "layer_ratios": [
        "cells_in_file",
        "is_ratio_text",
        "ratios_from",
        "ratios_in_file",
    ],
    "lazy": [
        "lazy_names",
    ],
    "message_file": [
        "MESSAGES_FILE",
        "keep_messages",
        "remember_messages",
    ],
    "model_calls": [
        "Inputs",
        "call_model",
        "count_of",
        "describe_output",
        "device_of",
        "main_output",
        "map_tensors",
        "rows_of",
        "run_model",
        "tensors_of",
        "weight_type",
    ],
    "model_failure": [
        "model_failure",
    ],
    "moved": [
        "MOVED",
        "install",
    ],
    "output_kinds": [
        "OUTPUT_KINDS",
        "OutputKind",
        "check_output_kind",
    ],
    "paths": [
        "AnyPath",
        "as_path",
    ],
    "percentages": [
        "plain_number",
        "read_share",
        "share_hint",
    ],
    "pickling": [
        "importable",
        "refuse_unpicklable",
    ],
    "plain_yaml": [
        "read_yaml_file",
        "PlainLoader",
        "dump_yaml",
        "load_yaml",
    ],
    "precision": [
        "half_types",
        "narrowed",
        "tensor_types",
        "widened",
    ],
    "process_group": [
        "ProcessGroup",
        "rank_slice",
    ],
    "elapsed": [
        "duration_text",
    ],
    "messages": [
        "is_quiet",
        "message_style",
        "quiet",
        "say",
        "warn",
    ],
    "progress": [
        "Progress",
        "track",
    ],
    "progress_file": [
        "PROGRESS_FILE",
        "log_progress",
    ],
    "progress_phases": [
        "enter_phase",
        "expect_phases",
        "plan_phases",
    ],
    "radix_select": [
        "Parts",
        "in_parts",
        "smallest_at",
        "threshold_counts",
    ],
    "run_dir": [
        "folder_name",
        "RunDir",
        "identity_hash",
        "policy_path",
    ],
    "run_summary": [
        "altered_results",
        "check_result",
    ],
    "saved_config": [
        "check_saved_config",
        "reason_of",
    ],
    "setting_checks": [
        "check_choice",
        "check_settings",
        "setting_problems",
    ],
    "unset": [
        "FitsUnset",
        "UnsetRule",
        "adjusted_line",
        "adjusted_values",
        "chosen_settings",
    ],
    "versions": [
        "library_versions",
    ],
    "weights": [
        "load_into",
        "load_state",
        "load_tensors",
        "read_metadata",
        "save_model",
        "write_tensors",
    ],
    "shown_values": [
        "shown",
        "shown_repr",
    ],
    "checksums": [
        "reading",
        "sealed",
        "unsealed",
    ],
    "texts": [
        "parse_json",
        "read_text",
        "MOST_BYTES",
    ],
}

__getattr__, __dir__ = lazy_names(__name__, _MODULES)
