"""Foundations: errors, files, progress, devices, processes, run directories."""
