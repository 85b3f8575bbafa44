"""What sends a tenant's address to its agent. ``router()`` gives the configured driver."""
