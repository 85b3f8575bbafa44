"""What rules can be about: named functions over rows. Adding one is a function with ``@metric`` in a module here."""

from monitoring.alerting.metrics.registry import Metric, Reading, Scope, known, metric, named

from monitoring.alerting.metrics import fleet, tenants  # noqa: F401 isort: skip - they register themselves

__all__ = ["Metric", "Reading", "Scope", "known", "metric", "named"]
