"""Ray Train's trainer, adapted to run inside a command."""

from __future__ import annotations

from typing import Any

from ray.train.torch import TorchTrainer

__all__ = ["RayTrainer"]


class RayTrainer(TorchTrainer):
    """Trainer without a Ctrl-C handler and without a clean-up process."""

    def _create_default_callbacks(self) -> list[Any]:
        """Leave out the process that frees the workers of a dead controller.

        The workers end with the driver in any case. The process takes 200 MB, requires a dashboard
        that may be missing, and fails with a traceback if a second Ray runs on the machine.
        """
        callbacks = super()._create_default_callbacks()  # type: ignore[misc]  # of the old class
        return [
            each for each in callbacks if type(each).__name__ != "PlacementGroupCleanerCallback"
        ]

    def _register_sigint_handler(self, controller: Any) -> None:
        """Do nothing: Ray's handler is never removed, and a later Ctrl-C would exit with code 0."""
