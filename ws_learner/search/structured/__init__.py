"""Structured allocation: how many channels, neurons and heads each coupled set keeps."""
