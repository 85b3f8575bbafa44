"""The name of a program by what it says of itself: "Firefox on Windows" tells more than a line of versions."""

from __future__ import annotations

# The first that is found counts: most browsers name others beside themselves.
_PROGRAMS = {
    "Edg": "Edge",
    "OPR/": "Opera",
    "Firefox/": "Firefox",
    "FxiOS/": "Firefox",
    "CriOS/": "Chrome",
    "Chrome/": "Chrome",
    "Safari/": "Safari",
    "curl/": "curl",
}
_SYSTEMS = {
    "iPhone": "iPhone",
    "iPad": "iPad",
    "Android": "Android",
    "Windows": "Windows",
    "Mac OS X": "macOS",
    "CrOS": "ChromeOS",
    "Linux": "Linux",
}


def client_name(user_agent: str) -> str:
    """Program and system where both are known, the program alone, or the text itself. It is a claim, never a proof."""
    program = next((name for mark, name in _PROGRAMS.items() if mark in user_agent), "")
    system = next((name for mark, name in _SYSTEMS.items() if mark in user_agent), "")
    return f"{program} on {system}" if program and system else program or user_agent
