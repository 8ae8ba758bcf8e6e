"""Costs of layers and networks: milliseconds of an engine, bytes, parameters, MACs."""
