"""Ray Train's trainer, without its hand on Ctrl-C."""

from __future__ import annotations

from typing import Any

from ray.train.torch import TorchTrainer

__all__ = ["Trainer"]


class Trainer(TorchTrainer):
    """Leaves SIGINT to the command.

    Ray's own handler stays behind after the training; the next Ctrl-C would end the program as if
    all were well.
    """

    def _register_sigint_handler(self, controller: Any) -> None:
        pass
