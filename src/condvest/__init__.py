"""The batch layer of a market-data lake: daily bars of the US stock market in plain parquet files."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from condvest.analytics import Lake

__version__ = "0.1.0"
__all__ = ["Lake", "__version__"]


def __getattr__(name: str) -> object:
    """Load `Lake` when it is first asked for: importing the package alone stays light."""
    if name == "Lake":
        from condvest.analytics import Lake

        return Lake
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
