"""The entry of the proxy's process: ``python -m zcplatform.egress_proxy``. Ends at SIGTERM."""

from __future__ import annotations

import asyncio
import os
import signal


async def _until_told() -> None:
    from tenants.egress.proxy import Proxy

    loop, ending = asyncio.get_running_loop(), asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, ending.set)
    work = asyncio.create_task(Proxy().run())
    told = asyncio.create_task(ending.wait())
    done, _ = await asyncio.wait({work, told}, return_when=asyncio.FIRST_COMPLETED)
    work.cancel()
    if work in done:
        work.result()  # it never ends by itself: this raises what ended it


def main() -> None:
    """Run until SIGTERM."""
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "zcplatform.settings")
    import django

    django.setup()
    asyncio.run(_until_told())


if __name__ == "__main__":
    main()
