"""The entry of the web: ``python -m zcplatform.web`` with gunicorn's own arguments.

It differs from gunicorn's in one way: modules are not looked for in the working directory, which gunicorn would put
before everything else.
"""

from __future__ import annotations

from gunicorn.app.wsgiapp import WSGIApplication


class Web(WSGIApplication):
    def chdir(self) -> None:
        """Stay, and leave the search path alone."""


if __name__ == "__main__":
    Web("%(prog)s [OPTIONS] [APP_MODULE]", prog="gunicorn").run()
