"""Which tensors can be pruned, what role they have, and how a profile is laid over them."""
