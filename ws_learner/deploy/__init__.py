"""What becomes of a sparse network after training: smaller tensors, other formats."""
