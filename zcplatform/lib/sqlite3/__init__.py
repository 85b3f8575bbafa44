"""Django's SQLite backend, with turns for the writers: see ``base``."""
