"""What a candidate costs: prune, regress, recalibrate, fine-tune, evaluate."""
