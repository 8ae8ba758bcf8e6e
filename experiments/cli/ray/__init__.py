"""The command line on a Ray cluster: jobs and sweeps."""
