"""Ray Train's trainer, without what gets in the way of a command."""

from __future__ import annotations

from typing import Any

from ray.train.torch import TorchTrainer

__all__ = ["RayTrainer"]


class RayTrainer(TorchTrainer):
    """Leaves Ctrl-C to the command, and no process beside the controller and its ranks."""

    def _create_default_callbacks(self) -> list[Any]:
        """Without the process that outlives a dead controller to free its workers.

        They end with the driver in any case. It takes 200 MB, asks a dashboard that may not be
        there, and breaks with a traceback when it finds a second Ray on the machine.
        """
        callbacks = super()._create_default_callbacks()  # type: ignore[misc]  # of the old class
        return [
            each for each in callbacks if type(each).__name__ != "PlacementGroupCleanerCallback"
        ]

    def _register_sigint_handler(self, controller: Any) -> None:
        """Nothing: Ray's handler stays behind, and the next Ctrl-C would end with code 0."""
