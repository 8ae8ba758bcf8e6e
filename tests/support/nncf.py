"""The manual's example, less its line `...(other algorithms)`."""

from __future__ import annotations

import json
from typing import Any

SEED_JSON = """{
  "compression": [
    {
      "algorithm": "movement_sparsity",
      "params": {
        "warmup_start_epoch": 1,
        "warmup_end_epoch": 6,
        "importance_regularization_factor": 0.1,
        "enable_structured_masking": false
      },
      "sparse_structure_by_scopes": [
        {
          "mode": "fine",
          "target_scopes": "BertForSequenceClassification/NNCFLinear[classifier]/linear_0"
        },
        {
          "mode": "block",
          "sparse_factors": [64, 64],
          "target_scopes": ["{re}.*attention.*", "{re}.*another_block.*"]
        },
        {
          "mode": "per_dim",
          "axis": 0,
          "target_scopes": "{re}.*intermediate.*"
        }
      ],
      "ignored_scopes": ["{re}.*pooler.*", "{re}.*classifier.*"]
    },
  ]
}
"""

PARAMS = {
    "warmup_start_epoch": 1,
    "warmup_end_epoch": 2,
    "importance_regularization_factor": 0.1,
}


def movement(**changes: Any) -> dict[str, Any]:
    """The smallest movement algorithm, with changes."""
    params = PARAMS | changes.pop("params", {})
    return {"algorithm": "movement_sparsity", "params": params} | changes


def text(*algorithms: dict[str, Any], **top: Any) -> str:
    """A file with these algorithms."""
    return json.dumps({"compression": list(algorithms)} | top)
