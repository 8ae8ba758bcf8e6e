"""What can be run: experiment files, networks, configurations and the command line."""

from ws_learner.core import install

install()
