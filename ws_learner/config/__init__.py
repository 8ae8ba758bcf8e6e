"""Settings as frozen dataclasses. Free of torch."""
