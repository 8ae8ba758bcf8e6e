"""Experiment files that `ws-learner new` copies; each runs as it is."""
