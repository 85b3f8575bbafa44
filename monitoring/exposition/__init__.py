"""The platform's own metrics for Prometheus, computed from rows, so that every web process says the same."""
