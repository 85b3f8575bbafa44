from dataclasses import asdict
from typing import Any

from zcplatform import upgrade
from zcplatform.lib.commands import PlatformCommand


class Command(PlatformCommand):
    help = (
        "Bring the database to the code that is installed: backup, migrate a copy, look at it, swap. serve has to be "
        "stopped. What fails changes nothing; restore --undo goes back until serve has started."
    )
    requires_system_checks: list[str] = []

    def run(self, **options: Any) -> None:
        done = upgrade.upgrade(lambda line: None if options["json"] else self.stdout.write(line))
        if options["json"]:
            self.print_json(asdict(done))
        elif done.migrated:
            self.stdout.write("Upgraded. Start serve.")
        else:
            self.stdout.write("Nothing to migrate.")
