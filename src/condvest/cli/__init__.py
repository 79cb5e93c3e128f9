"""The command `condvest`: reads options, calls one function of `app` a command, prints what came of it.

Nothing heavy is imported before a command runs: `condvest --help` loads neither pyarrow nor a database.
"""

from condvest.cli.entry import main

__all__ = ["main"]
