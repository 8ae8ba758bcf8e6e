"""Rollouts: prune, regress, recalibrate, fine-tune and evaluate a candidate."""
