"""The page with the chart: one HTML file that holds all it needs, candlesticks above and volume below."""

from __future__ import annotations

import html
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date
from importlib.resources import files
from importlib.util import find_spec
from string import Template
from typing import TYPE_CHECKING, Any, Final

import pyarrow as pa

from condvest.domain.actions import Split
from condvest.errors import ConfigError

if TYPE_CHECKING:
    import plotly.graph_objects as go

_UP: Final = "#0f766e"
_DOWN: Final = "#c2410c"
_INK: Final = "#1f2937"
_FAINT: Final = "#e5e7eb"
_SPLIT: Final = "#6d28d9"
_PRICES: Final = ("open", "high", "low", "close")
#: Ticks of a price axis over decades; the script turns to plotly's own where fewer dollars are in sight.
_TICKS: Final = [digit * 10**power for power in range(-2, 6) for digit in (1, 2, 5)]
#: How high the buttons stand, in heights of the plots: above them.
_ABOVE: Final = 1.07


@dataclass(frozen=True, slots=True, kw_only=True)
class Chart:
    """What the page shows: one symbol's period bars, on today's share basis and as stored, and its splits."""

    symbol: str
    interval_sessions: int
    adjusted: pa.Table
    stored: pa.Table
    splits: Sequence[Split]
    source: str


def require_plotly() -> None:
    """Raise ConfigError when plotly, which draws the chart, is not installed."""
    if find_spec("plotly") is None:
        raise ConfigError(
            "plotly is not installed; the demo draws its chart with it; install it with `make setup` or"
            " `python -m pip install 'condvest[demo]'`"
        )


def chart_page(chart: Chart) -> str:
    """Return the page, plotly's script inside (about 5 MB). It loads nothing: a policy in it forbids that."""
    from plotly.io import to_html

    drawn = to_html(
        _figure(chart),
        include_plotlyjs=True,
        full_html=False,
        div_id="chart",
        default_height="100%",
        post_script=_read("chart.js"),
        config={
            "displaylogo": False,
            "responsive": True,
            "scrollZoom": True,
            "modeBarButtonsToRemove": ["select2d", "lasso2d"],
        },
    )
    first, last = chart.stored["date"][0].as_py(), chart.stored["end_date"][-1].as_py()
    splits = ", ".join(f"{_ratio(split)} on {split.execution_date}" for split in chart.splits)
    words = {
        "title": f"{chart.symbol}, bars of {chart.interval_sessions} sessions, split-adjusted",
        "span": f"{first} to {last}",
        "bars": f"{chart.stored.num_rows:,}",
        "splits": splits or "none",
        "source": chart.source,
        "sessions": str(chart.interval_sessions),
    }
    return Template(_read("page.html")).substitute(
        {name: html.escape(text) for name, text in words.items()}, chart=drawn
    )


def _figure(chart: Chart) -> go.Figure:
    import plotly.graph_objects as go

    figure = go.Figure()
    for bars, visible in ((chart.adjusted, True), (chart.stored, False)):
        figure.add_trace(_candles(bars, visible=visible))
        figure.add_trace(_volume(bars, visible=visible))
    for split in chart.splits:
        _mark(figure, split)
    figure.update_layout(
        template="plotly_white",
        font={"family": "system-ui, -apple-system, 'Segoe UI', Roboto, sans-serif", "size": 13, "color": _INK},
        margin={"l": 72, "r": 28, "t": 76, "b": 40},
        showlegend=False,
        dragmode="pan",
        hovermode="x",
        hoverlabel={"bgcolor": "white", "bordercolor": _FAINT, "font": {"color": _INK}, "align": "left"},
        updatemenus=_menus(),
        xaxis={
            "anchor": "y2",
            "gridcolor": _FAINT,
            "hoverformat": "%b %Y",
            "rangeselector": _ranges(),
            "rangeslider": {"visible": False},
        },
        # A format makes the ticks between powers of ten whole numbers in place of lone digits.
        yaxis=_axis("US dollars", (0.27, 1)) | {"type": "log", "tickformat": "$,~r", "tickvals": _TICKS},
        yaxis2=_axis("shares", (0, 0.23)) | {"rangemode": "tozero", "tickformat": "~s", "nticks": 5},
    )
    return figure


def _axis(title: str, domain: tuple[float, float]) -> dict[str, Any]:
    words = {"text": title, "font": {"size": 12}, "standoff": 8}
    # The script fits the range to the bars in sight, so that moving and zooming is a matter of time alone.
    return {"title": words, "domain": domain, "gridcolor": _FAINT, "zeroline": False, "fixedrange": True}


def _candles(bars: pa.Table, *, visible: bool) -> go.Candlestick:
    import plotly.graph_objects as go

    return go.Candlestick(
        x=_middles(bars),
        **{name: bars[name].to_pylist() for name in _PRICES},
        customdata=_captions(bars),
        visible=visible,
        increasing={"line": {"color": _UP, "width": 1.2}, "fillcolor": _UP},
        decreasing={"line": {"color": _DOWN, "width": 1.2}, "fillcolor": _DOWN},
        hovertemplate=(
            "<b>%{customdata[0]}</b><br>open %{open:$,.2f}, high %{high:$,.2f}<br>low %{low:$,.2f}, close %{close:$,.2f}"
            "<br>%{customdata[1]}<extra></extra>"
        ),
    )


def _volume(bars: pa.Table, *, visible: bool) -> go.Bar:
    import plotly.graph_objects as go

    opens, closes = bars["open"].to_pylist(), bars["close"].to_pylist()
    return go.Bar(
        x=_middles(bars),
        y=bars["volume"].to_pylist(),
        yaxis="y2",
        visible=visible,
        hoverinfo="skip",  # the candle above tells it
        marker={"color": [_UP if close >= opened else _DOWN for opened, close in zip(opens, closes, strict=True)]},
        opacity=0.55,
    )


def _middles(bars: pa.Table) -> list[date]:
    """Return the middle of each bar's days, so that what happens within a bar stands within its candle."""
    return [first + (last - first) / 2 for first, last in _spans(bars)]


def _captions(bars: pa.Table) -> list[tuple[str, str]]:
    counts = zip(_spans(bars), bars["n_sessions"].to_pylist(), bars["volume"].to_pylist(), strict=True)
    return [
        (f"{first} to {last}", f"{volume / 1e6:,.1f} million shares in {sessions} sessions")
        for (first, last), sessions, volume in counts
    ]


def _spans(bars: pa.Table) -> list[tuple[date, date]]:
    return list(zip(bars["date"].to_pylist(), bars["end_date"].to_pylist(), strict=True))


def _mark(figure: go.Figure, split: Split) -> None:
    """Draw a line through both plots at a split, with its ratio above."""
    day = str(split.execution_date)
    figure.add_shape(
        type="line",
        xref="x",
        yref="paper",
        x0=day,
        x1=day,
        y0=0,
        y1=1,
        line={"color": _SPLIT, "width": 1, "dash": "dot"},
    )
    figure.add_annotation(
        x=day,
        y=1,
        xref="x",
        yref="paper",
        text=f"{_ratio(split)} split<br>{day}",
        showarrow=False,
        xanchor="left",
        yanchor="top",
        align="left",
        xshift=5,
        font={"color": _SPLIT, "size": 12},
        bgcolor="rgba(255,255,255,0.8)",
    )


def _ratio(split: Split) -> str:
    return f"{split.split_to:g}:{split.split_from:g}"


def _ranges() -> dict[str, Any]:
    years = [{"count": count, "label": f"{count} y", "step": "year", "stepmode": "backward"} for count in (1, 3, 5)]
    return {"buttons": [*years, {"label": "all", "step": "all"}], "x": 0, "y": _ABOVE, "yanchor": "middle"}


def _menus() -> list[dict[str, Any]]:
    """Return the buttons: the basis of the bars, and the price axis."""
    bases = [("split-adjusted", [True, True, False, False]), ("as stored", [False, False, True, True])]
    basis = [{"label": label, "method": "restyle", "args": [{"visible": shown}]} for label, shown in bases]
    changes = [{"yaxis.type": kind, "yaxis.tickmode": "auto", "yaxis.autorange": True} for kind in ("log", "linear")]
    axis = [{"label": change["yaxis.type"], "method": "relayout", "args": [change]} for change in changes]
    menu = {"type": "buttons", "direction": "right", "showactive": True, "bgcolor": "white", "bordercolor": _FAINT}
    place = {"x": 0, "xanchor": "left", "y": _ABOVE, "yanchor": "middle", "font": {"size": 12}}
    offsets = ((basis, 170), (axis, 380))  # pixels from the left, behind the ranges
    return [menu | place | {"buttons": buttons, "pad": {"l": pixels}} for buttons, pixels in offsets]


def _read(name: str) -> str:
    return files("condvest.demo").joinpath("data", name).read_text(encoding="utf-8")
