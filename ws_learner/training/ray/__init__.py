"""Ray: rollouts in actors, training in data-parallel ranks, on one machine or many."""
