"""The leaf library: imports no app, so every app may use it."""
