"""The channel kinds: one schema each."""

CHANNELS: dict = {}
