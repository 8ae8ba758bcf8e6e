"""MLflow: a run at the server, or in the database, of `MLFLOW_TRACKING_URI`."""

from __future__ import annotations

import os
import re
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ws_learner.report.trackers.tracker import EndState

__all__ = ["MLflowTracker"]

EXPERIMENT = "weight-sparse-learner"
"""Unless MLFLOW_EXPERIMENT_NAME has another."""

_STATES = {"finished": "FINISHED", "failed": "FAILED", "stopped": "KILLED"}
_MOST_PARAMETERS, _MOST_METRICS, _MOST_KEY, _MOST_VALUE = 100, 1000, 250, 6000
_LIMITS = {"MLFLOW_HTTP_REQUEST_TIMEOUT": "10", "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "2"}


class MLflowTracker:
    """Sends a run to MLflow, with the client that its environment variables choose."""

    kind = "mlflow"

    def begin(self, run: Path, *, name: str, tags: Sequence[str], place: str) -> str:
        """Open the MLflow run of the last time, or a new one if it is gone."""
        for variable, value in _LIMITS.items():  # a server that is away must not keep us waiting
            os.environ.setdefault(variable, value)
        from mlflow import MlflowClient

        self._client: Any = MlflowClient()
        self._id = place.rpartition(" ")[2]
        if place == f"{self._client.tracking_uri} {self._id}" and self._is_there():
            self._client.update_run(self._id, status="RUNNING")
        else:
            marks = {"ws_learner.run": run.absolute().name, **{f"tag.{tag}": "1" for tag in tags}}
            labels = {_key(mark): value for mark, value in marks.items()}
            made = self._client.create_run(self._experiment(), run_name=name, tags=labels)
            self._id = made.info.run_id
        return f"{self._client.tracking_uri} {self._id}"

    def parameters(self, values: Mapping[str, str]) -> None:
        """Log parameters, a hundred at once."""
        from mlflow.entities import Param

        entries = [Param(_key(name), value[:_MOST_VALUE]) for name, value in values.items()]
        for begin in range(0, len(entries), _MOST_PARAMETERS):
            self._client.log_batch(self._id, params=entries[begin : begin + _MOST_PARAMETERS])

    def metrics(self, rows: Sequence[tuple[int, Mapping[str, float]]]) -> None:
        """Log metrics, a thousand at once."""
        from mlflow.entities import Metric

        now = int(1000 * time.time())
        entries = [
            Metric(_key(name), value, now, step)
            for step, values in rows
            for name, value in values.items()
        ]
        for begin in range(0, len(entries), _MOST_METRICS):
            self._client.log_batch(self._id, metrics=entries[begin : begin + _MOST_METRICS])

    def artifact(self, file: Path) -> None:
        """Upload a file."""
        self._client.log_artifact(self._id, str(file))

    def end(self, state: EndState) -> None:
        """Say how the run ended."""
        self._client.set_terminated(self._id, status=_STATES[state])

    def _is_there(self) -> bool:
        from mlflow.exceptions import MlflowException

        try:
            found = self._client.get_run(self._id)
        except MlflowException as error:
            if error.error_code == "RESOURCE_DOES_NOT_EXIST":
                return False
            raise
        return bool(found.info.lifecycle_stage == "active")

    def _experiment(self) -> str:
        name = os.environ.get("MLFLOW_EXPERIMENT_NAME", EXPERIMENT)
        found = self._client.get_experiment_by_name(name)
        made = self._client.create_experiment(name) if found is None else found.experiment_id
        return str(made)


def _key(name: str) -> str:
    """A name of the characters that MLflow takes."""
    return re.sub(r"[^\w\-. /:]", "_", name, flags=re.ASCII)[:_MOST_KEY]
