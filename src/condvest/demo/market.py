"""The data behind the stand-in provider: bars, tickers, corporate actions and closures of a made or sampled market."""

from __future__ import annotations

import threading
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, time
from functools import cache
from zoneinfo import ZoneInfo

NEW_YORK = ZoneInfo("America/New_York")
_EXCHANGES = ("NYSE", "NASDAQ", "OTC")


@dataclass(frozen=True, slots=True)
class Bar:
    """One daily bar as the exchange printed it: raw prices in dollars, volume in shares.

    `vwap` and `transactions` are left out of an answer when None; `otc` bars show only with `include_otc=true`.
    """

    open: float
    high: float
    low: float
    close: float
    volume: float
    vwap: float | None = None
    transactions: int | None = None
    otc: bool = False


@cache
def new_york_ms(session: date, hour: int) -> int:
    """Return the instant at which the clocks of New York show `hour` o'clock on that date, in UTC milliseconds."""
    return int(datetime.combine(session, time(hour), tzinfo=NEW_YORK).timestamp()) * 1000


@dataclass
class Market:
    """Everything the provider would know. Change it at any time, also while a stand-in serves it.

    `tickers`, `splits`, `dividends` and `upcoming` hold rows in the provider's shape. `raw_rows` are literal rows that
    follow the bars in a grouped answer, for rows that no sane bar could make. Hold `lock` to change several at once.
    """

    bars: dict[date, dict[str, Bar]] = field(default_factory=dict)
    tickers: dict[str, dict[str, object]] = field(default_factory=dict)
    splits: list[dict[str, object]] = field(default_factory=list)
    dividends: list[dict[str, object]] = field(default_factory=list)
    upcoming: list[dict[str, object]] = field(default_factory=list)
    raw_rows: dict[date, list[dict[str, object]]] = field(default_factory=dict)
    lock: threading.RLock = field(default_factory=threading.RLock, repr=False, compare=False)

    def set_bar(self, symbol: str, session: date, bar: Bar) -> None:
        """Put one bar in, or replace it. A symbol that is not a ticker yet becomes an active one."""
        with self.lock:
            self.bars.setdefault(session, {})[symbol] = bar
            if symbol not in self.tickers:
                self.add_ticker(symbol)

    def remove_bar(self, symbol: str, session: date) -> None:
        """Take one bar out; KeyError when it is not there."""
        with self.lock:
            del self.bars[session][symbol]

    def add_ticker(self, symbol: str, **info: object) -> None:
        """Add or replace one ticker; `info` are fields of the provider's details answer, on top of plain defaults."""
        defaults: dict[str, object] = {
            "ticker": symbol,
            "name": symbol,
            "market": "stocks",
            "locale": "us",
            "primary_exchange": "XNAS",
            "type": "CS",
            "active": True,
            "currency_name": "usd",
            "last_updated_utc": "2025-01-01T00:00:00Z",
        }
        with self.lock:
            self.tickers[symbol] = defaults | info

    def delist(self, symbol: str, day: date) -> None:
        """Make a ticker inactive from `day` on; its bars stay."""
        with self.lock:
            self.tickers[symbol] |= {"active": False, "delisted_utc": f"{day}T00:00:00Z"}

    def add_split(
        self,
        symbol: str,
        execution_date: date,
        split_from: float,
        split_to: float,
        *,
        adjustment_type: str | None = None,
    ) -> None:
        """Add a split of `split_from` old shares into `split_to` new ones. Duplicates stay: the provider has them."""
        kind = adjustment_type or ("forward_split" if split_to > split_from else "reverse_split")
        row: dict[str, object] = {
            "id": f"S{symbol}{execution_date:%Y%m%d}{split_from}{split_to}",
            "ticker": symbol,
            "execution_date": str(execution_date),
            "split_from": split_from,
            "split_to": split_to,
            "adjustment_type": kind,
        }
        with self.lock:
            self.splits.append(row)

    def add_dividend(self, symbol: str, ex_dividend_date: date, cash_amount: float, **fields: object) -> None:
        """Add a cash dividend in dollars a share, as declared; `fields` go on top (`pay_date`, `frequency`, ...)."""
        row: dict[str, object] = {
            "id": f"D{symbol}{ex_dividend_date:%Y%m%d}{cash_amount}",
            "ticker": symbol,
            "ex_dividend_date": str(ex_dividend_date),
            "cash_amount": cash_amount,
            "currency": "USD",
            "distribution_type": "recurring",
            "frequency": 4,
        }
        with self.lock:
            self.dividends.append(row | fields)

    def add_closure(self, day: date, name: str, *, early_close: time | None = None) -> None:
        """Announce a holiday, or an early close at a New York time, one row an exchange as the provider does."""
        times: dict[str, object] = {}
        if early_close is not None:
            times = {"open": _utc_text(day, time(9, 30)), "close": _utc_text(day, early_close)}
        status = "closed" if early_close is None else "early-close"
        with self.lock:
            self.upcoming += [
                {"date": str(day), "exchange": exchange, "name": name, "status": status} | times
                for exchange in _EXCHANGES
            ]

    def split_factor(self, symbol: str, session: date, today: date) -> float:
        """Return what a raw price of that session is multiplied with to stand on today's share basis."""
        factor = 1.0
        for row in self.splits:
            if row["ticker"] == symbol and str(session) < str(row["execution_date"]) <= str(today):
                factor *= float(str(row["split_from"])) / float(str(row["split_to"]))
        return factor


def _utc_text(day: date, at: time) -> str:
    instant = datetime.combine(day, at, tzinfo=NEW_YORK).astimezone(UTC)
    return instant.strftime("%Y-%m-%dT%H:%M:%S.000Z")
