"""Pure tensor maths of pruning: patterns, criteria, schedules, masks."""
