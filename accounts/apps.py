from django.apps import AppConfig


class AccountsConfig(AppConfig):
    name = "accounts"

    def ready(self) -> None:
        """Every session of a browser gets its login's row, by whichever way it was opened."""
        from django.contrib.auth.signals import user_logged_in

        from accounts.logins import note_browser

        user_logged_in.connect(note_browser, dispatch_uid="accounts.logins")
