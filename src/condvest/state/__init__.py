"""The state database: session ledger, watermarks, symbols and runs, on SQLite or PostgreSQL."""

from condvest.state.database import State

__all__ = ["State"]
