"""Where agents run. ``runtime_for(node)`` gives the driver; a new one is a module and a line in settings.RUNTIMES."""
