"""Experiments, their networks and configurations, and the command line."""

from ws_learner.core import install

install()
