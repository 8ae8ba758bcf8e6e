"""What can be run: experiment files, networks, configurations and the command line."""

from ws_learner.core.moved import install

install()
