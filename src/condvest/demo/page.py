"""The page with the chart: one HTML file that holds all it needs, candlesticks above and volume below."""

from __future__ import annotations

import html
from collections.abc import Sequence
from dataclasses import dataclass
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
#: Where the buttons of the chart stand, in parts of its width; above the plot.
_ABOVE: Final = 1.09


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
        config={"displaylogo": False, "responsive": True, "modeBarButtonsToRemove": ["select2d", "lasso2d"]},
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
    return Template(_read("page.html")).substitute({name: html.escape(text) for name, text in words.items()}, chart=drawn)


def _figure(chart: Chart) -> go.Figure:
    from plotly.subplots import make_subplots

    figure = make_subplots(rows=2, cols=1, shared_xaxes=True, row_heights=[0.76, 0.24], vertical_spacing=0.03)
    for bars, visible in ((chart.adjusted, True), (chart.stored, False)):
        figure.add_trace(_candles(chart, bars, visible=visible), row=1, col=1)
        figure.add_trace(_volume(bars, visible=visible), row=2, col=1)
    for split in chart.splits:
        _mark(figure, split)
    figure.update_layout(
        template="plotly_white",
        font={"family": "system-ui, -apple-system, 'Segoe UI', Roboto, sans-serif", "size": 13, "color": _INK},
        margin={"l": 70, "r": 24, "t": 64, "b": 36},
        showlegend=False,
        dragmode="pan",
        hovermode="x",
        hoverlabel={"bgcolor": "white", "bordercolor": _FAINT, "font": {"color": _INK}, "align": "left"},
        updatemenus=_menus(),
    )
    figure.update_xaxes(rangeslider_visible=False, gridcolor=_FAINT, showspikes=True, spikethickness=1, spikecolor="#9ca3af")
    figure.update_xaxes(rangeselector=_ranges(), row=1, col=1)
    figure.update_yaxes(gridcolor=_FAINT, zeroline=False)
    figure.update_yaxes(title_text="US dollars", type="log", tickprefix="$", row=1, col=1)
    figure.update_yaxes(title_text="shares", rangemode="tozero", tickformat="~s", row=2, col=1)
    return figure


def _candles(chart: Chart, bars: pa.Table, *, visible: bool) -> go.Candlestick:
    import plotly.graph_objects as go

    about = zip(bars["end_date"].to_pylist(), bars["n_sessions"].to_pylist(), strict=True)
    return go.Candlestick(
        x=bars["date"].to_pylist(),
        **{name: bars[name].to_pylist() for name in _PRICES},
        customdata=[(str(end), sessions) for end, sessions in about],
        name=chart.symbol,
        visible=visible,
        increasing={"line": {"color": _UP, "width": 1.2}, "fillcolor": _UP},
        decreasing={"line": {"color": _DOWN, "width": 1.2}, "fillcolor": _DOWN},
        hovertemplate=(
            "<b>%{x|%Y-%m-%d} to %{customdata[0]}</b>, %{customdata[1]} sessions<br>"
            "open $%{open:.2f}, high $%{high:.2f}<br>low $%{low:.2f}, close $%{close:.2f}<extra></extra>"
        ),
    )


def _volume(bars: pa.Table, *, visible: bool) -> go.Bar:
    import plotly.graph_objects as go

    opens, closes = bars["open"].to_pylist(), bars["close"].to_pylist()
    return go.Bar(
        x=bars["date"].to_pylist(),
        y=bars["volume"].to_pylist(),
        visible=visible,
        marker={"color": [_UP if close >= opened else _DOWN for opened, close in zip(opens, closes, strict=True)]},
        opacity=0.55,
        hovertemplate="volume %{y:.4~s}<extra></extra>",
    )


def _mark(figure: go.Figure, split: Split) -> None:
    """Draw a line through both plots at a split, with its ratio above."""
    day = str(split.execution_date)
    figure.add_shape(
        type="line", xref="x", yref="paper", x0=day, x1=day, y0=0, y1=1, line={"color": _SPLIT, "width": 1, "dash": "dot"}
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
    """Return the buttons: the price axis, and the basis of the bars."""
    basis = [
        ("split-adjusted", [True, True, False, False]),
        ("as stored", [False, False, True, True]),
    ]
    axes = [("log", "log"), ("linear", "linear")]
    place = {"type": "buttons", "direction": "right", "y": _ABOVE, "yanchor": "middle", "showactive": True}
    return [
        place
        | {
            "x": 0.56,
            "xanchor": "left",
            "buttons": [{"label": label, "method": "restyle", "args": [{"visible": shown}]} for label, shown in basis],
        },
        place
        | {
            "x": 1,
            "xanchor": "right",
            "buttons": [
                {"label": label, "method": "relayout", "args": [{"yaxis.type": kind, "yaxis.autorange": True}]}
                for label, kind in axes
            ],
        },
    ]


def _read(name: str) -> str:
    return files("condvest.demo").joinpath("data", name).read_text(encoding="utf-8")
