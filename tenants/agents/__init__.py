"""The agent kinds. ``agent_kind(name)`` gives one; a new one is a module and two lines in settings."""
