"""Alerts on the pages: what fires and what fired, silences, a tenant's own rules, and who is told."""
