"""Read a lake: bars of any period, adjusted as of any time, and SQL over all of it. Nothing here writes."""

from condvest.analytics.reader import Lake

__all__ = ["Lake"]
