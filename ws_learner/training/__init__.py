"""The training loop, dense and sparse training, distillation, evaluation."""
