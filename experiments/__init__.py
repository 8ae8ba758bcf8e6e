"""What can be run: experiment files, networks, benchmarks and the command line."""
