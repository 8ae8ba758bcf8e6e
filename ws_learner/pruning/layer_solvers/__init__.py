"""One-shot pruning of one linear layer from its weight and the Gram matrix of its inputs."""
