"""Loaders of the supported data sets."""
