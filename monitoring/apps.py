from django.apps import AppConfig


class MonitoringConfig(AppConfig):
    name = "monitoring"

    def ready(self) -> None:
        from monitoring.collectors.usage import read_last
        from tenants.usage import BEFORE_STOP

        if read_last not in BEFORE_STOP:
            BEFORE_STOP.append(read_last)
