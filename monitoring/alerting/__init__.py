"""Rules over what the platform knows, and messages to those who should hear of it."""
