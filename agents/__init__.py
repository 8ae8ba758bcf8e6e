"""Who decides: agents that learn which prune ratios pay. They never see a network being pruned."""
