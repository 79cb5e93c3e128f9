"""The reading API: bars of any period, adjusted as known at any time, and SQL over the whole lake."""

from __future__ import annotations

import os
from datetime import date, datetime
from functools import cached_property
from typing import TYPE_CHECKING, NoReturn

import pyarrow as pa

from condvest.analytics import catalog, landed
from condvest.analytics.basis import CorporateActions
from condvest.analytics.periods import Anchor, Wanted, between, check_bounds, check_day, parse_interval, period_bars
from condvest.domain.adjust import Adjustment
from condvest.domain.adjust import adjusted as adjust
from condvest.domain.calendar import Calendar, new_york_date
from condvest.domain.resample import PERIOD_SCHEMA, SessionTable
from condvest.domain.symbols import check_symbol
from condvest.errors import ConfigError, DataError, ObjectNotFound
from condvest.storage import layout
from condvest.storage.bars_file import decode_bars, decode_series
from condvest.storage.closures import read_closures
from condvest.storage.opening import holds_a_lake, open_store
from condvest.storage.store import Store

if TYPE_CHECKING:
    from condvest.state import State

_CACHED = ("actions", "summary", "calendar", "_reach", "_table")


class Lake:
    """A lake to read from. It never writes, and calls may come from several threads.

    Bars are read anew by each call. The consolidation manifest, corporate actions and closures are read when first needed
    and kept: after jobs have run, `refresh` forgets them. It stays in its process: another one opens the lake by its `url`,
    and on S3 is not forked from this one.
    """

    def __init__(self, store: Store, *, state: State | None = None, calendar: Calendar | None = None) -> None:
        """Read from an open store, whatever lies there.

        Args:
            store: where the lake is.
            state: gives `symbols` the metadata and `sessions` the ledger; it stays open.
            calendar: in place of the shipped one less the closures that are recorded in the lake.
        """
        self.store = store
        self._state = state
        self._calendar = calendar

    @classmethod
    def open(
        cls,
        url: str | os.PathLike[str],
        *,
        state: State | None = None,
        region: str | None = None,
        endpoint_url: str | None = None,
    ) -> Lake:
        """Open the lake at a path or URL, as in LAKE_URL: `./lake`, `file:///path` or `s3://bucket/prefix`.

        `region` and `endpoint_url` are of S3, else as the environment says (AWS_REGION, AWS_ENDPOINT_URL); so are
        credentials. ConfigError: a bad URL, access refused, or nothing of a lake there.
        """
        lake = cls(open_store(url, region=region, endpoint_url=endpoint_url), state=state)
        if not holds_a_lake(lake.store):
            raise ConfigError(
                f"no lake at {lake.url}: nothing was fetched into it; correct the address, or fill it with"
                " `condvest fetch bars --from YYYY-MM-DD` and `condvest consolidate`"
            )
        return lake

    @property
    def url(self) -> str:
        """Where the lake is; never holds a credential."""
        return self.store.url

    def __repr__(self) -> str:
        return f"Lake({self.url!r})"

    def __reduce__(self) -> NoReturn:
        """Refuse to be pickled or copied: a store holds locks and threads of this process."""
        raise TypeError(f"{self!r} cannot be pickled or copied; hand over its url, and open that with Lake.open there")

    def refresh(self) -> None:
        """Forget what is kept: the next call sees the manifest, corporate actions and closures as they are by then."""
        for name in _CACHED:
            self.__dict__.pop(name, None)

    @cached_property
    def calendar(self) -> Calendar:
        """The calendar by which period bars are grouped."""
        return self._calendar or Calendar.shipped(read_closures(self.store))

    @cached_property
    def actions(self) -> CorporateActions:
        """The splits and dividends."""
        return CorporateActions(self.store)

    @cached_property
    def summary(self) -> pa.Table:
        """The symbols with consolidated bars: `symbol`, `last_consolidated_date`, `row_count`; ascending by symbol."""
        return catalog.read_summary(self.store)

    @cached_property
    def _reach(self) -> date:
        return max(filter(None, self.summary["last_consolidated_date"].to_pylist()), default=date.min)

    @cached_property
    def _table(self) -> SessionTable:
        return SessionTable(self.calendar)

    def bars(
        self,
        symbol: str,
        *,
        interval: str = "1d",
        first: date | None = None,
        last: date | None = None,
        adjusted: Adjustment = "none",
        as_of: datetime | None = None,
        anchor: Anchor = "calendar",
    ) -> pa.Table:
        """Return one symbol's consolidated bars, ascending: what is fetched but not consolidated yet is not seen.

        Daily bars have `DAILY_SCHEMA`. Period bars have `PERIOD_SCHEMA`, are computed from the daily ones, and equal silver
        where silver has them (`adjusted="none"`); `complete` says whether the consolidated lake has reached `end_date`.

        Args:
            symbol: as the provider writes it; case matters.
            interval: sessions a bar and a d: `1d`, `3d`, `13d`, any up to `99999d`.
            first: first session, inclusive; for period bars, of their first sessions (`date`). None: from the beginning.
            last: last session, inclusive, likewise. None: to the end.
            adjusted: `none`: prices as printed, but those inside one period bar all on the basis of its end; `splits`:
                on the basis of the lake's last session; `all`: less dividends as well. Volume follows splits alone.
            as_of: an aware instant: only corporate actions that the lake knew then, and that took effect by then, count.
                It hides no bar. None: now.
            anchor: `calendar`: groups of sessions that are the same for all symbols; `listing`: counted from the symbol's
                own first bar.

        Raises:
            ConfigError: no consolidated bars of that symbol (it names similar ones), or an argument that cannot be.
            DataError: an object of the lake cannot be read, or is gone.
        """
        wanted = Wanted(sessions=parse_interval(interval), adjusted=adjusted, as_of=as_of, anchor=anchor)
        check_bounds(first, last)
        key = layout.data_key(check_symbol(symbol))
        try:
            stored = self.store.get(key)
        except ObjectNotFound:
            raise self._unknown(symbol) from None
        is_daily = wanted.sessions == 1
        bars = decode_bars(stored.data, key, may_be_empty=True) if is_daily else decode_series(stored.data, key)
        return between(self.made(symbol, bars, wanted), first, last)

    def symbols(self) -> pa.Table:
        """Return the symbols with consolidated bars, ascending, and what the state database, where given, knows of them.

        Columns: `catalog.SYMBOLS_SCHEMA`, the same without a state database; they are null then.
        """
        return catalog.with_metadata(self.summary, self._state.symbols() if self._state is not None else ())

    def sessions(self) -> pa.Table:
        """Return the session ledger, ascending: `session`, `state`, `source`, counts, `fetched_at`, `reason`.

        Without a state database it says of each session that landed what a listing of the landing zone tells: whether
        it is provisional or final, where the last answer came from, and when. The counts are null then.
        """
        if self._state is not None:
            return landed.sessions_of_ledger(self._state.sessions())
        return landed.sessions_of_landing(self.store, self.calendar)

    def restatements(self, session: date) -> pa.Table:
        """Return the bars of one session that a later answer of the provider changed: `landed.RESTATEMENTS_SCHEMA`.

        Columns: symbol, date, `seen_at` (UTC: when the new values came), `old_open` to `old_transactions`, `new_open` to
        `new_transactions`; raw prices, by `seen_at`, then symbol. Read from the landed answers.
        """
        check_day("session", session)
        return landed.restatements(self.store, session)

    def sql(self, query: str) -> pa.Table:
        """Run one query of DuckDB's SQL and return its rows. It can read the views below, and nothing else.

        - `bronze`: all consolidated daily bars, as `bars` gives them; `silver_3d` ... `silver_34d`: period bars as stored
        - `bronze_adjusted_splits`, `bronze_adjusted_all`, `silver_3d_adjusted_splits`, ...: what `bars` gives for every
          symbol with `adjusted=`, computed from daily bars while it is read
        - `symbols`, as `symbols` gives it; `splits` and `dividends`, the ledger of corporate actions, withdrawn ones too

        A view without data is empty. A condition on `symbol` spares reading other symbols' daily bars, one on `date` other
        months' period bars. Times are UTC.

        Raises:
            ConfigError: not one query, a wrong one, or one that would write or reach outside the views.
            DataError: an object of the lake cannot be read, or the query is too large for the machine.
        """
        from condvest.analytics.sql import run
        from condvest.analytics.views import lake_views

        return run(query, lake_views(self.store, names=self._names, symbols=self.symbols, make=self.made))

    def made(self, symbol: str, bars: pa.Table, wanted: Wanted) -> pa.Table:
        """Return what is wanted of one symbol's daily bars, all of them (raw, ascending).

        They have `DAILY_SCHEMA`; for period bars `SERIES_NAMES` are enough.
        """
        if bars.num_rows == 0:
            return bars if wanted.sessions == 1 else PERIOD_SCHEMA.empty_table()
        if wanted.sessions == 1 and wanted.adjusted == "none":
            return bars
        reach = max(self._reach, bars["date"][-1].as_py())
        as_of, through = wanted.as_of, reach
        if as_of is not None:
            through = min(reach, new_york_date(as_of))
        splits = self.actions.splits(symbol, bars, through=through, as_of=as_of)
        if wanted.adjusted != "none":
            dividends = []
            if wanted.adjusted == "all":
                dividends = self.actions.dividends(symbol, through=through, as_of=as_of)
            bars = adjust(bars, splits, dividends) if splits or dividends else bars
            splits = []
        if wanted.sessions == 1:
            return bars
        return period_bars(
            bars, symbol, wanted.sessions, table=self._table, splits=splits, reach=reach, anchor=wanted.anchor
        )

    def _names(self) -> list[str]:
        names: list[str] = self.summary["symbol"].to_pylist()
        return names

    def _unknown(self, symbol: str) -> ConfigError | DataError:
        names = self._names()
        if symbol in names:
            return DataError(
                f"{layout.data_key(symbol)}: is gone from lake {self.url}, though the manifest knows it; run"
                " `condvest consolidate --force-full`, which rebuilds it from landing, or restore it from a copy"
            )
        near = catalog.nearest(symbol, names)
        meant = f"did you mean {' or '.join(near)}?" if near else "none is similar;"
        return ConfigError(
            f"symbol {symbol!r} has no consolidated bars in lake {self.url}: {meant} `condvest query 'FROM symbols'` lists"
            " those that have, and fetched bars are seen after `condvest consolidate`"
        )
