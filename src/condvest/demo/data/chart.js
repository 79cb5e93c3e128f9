// Fit prices and volume to the bars in sight: plotly by itself fits them to all bars there are.
(() => {
  const chart = document.getElementById("{plot_id}");
  const fit = () => {
    const [from, to] = chart._fullLayout.xaxis.range.map((at) => new Date(at).getTime());
    let low = Infinity, high = -Infinity, most = 0;
    chart._fullData.filter((trace) => trace.visible === true).forEach((trace) => {
      trace.x.forEach((at, place) => {
        const time = new Date(at).getTime();
        if (time < from || time > to) return;
        if (trace.type === "candlestick") {
          low = Math.min(low, trace.low[place]);
          high = Math.max(high, trace.high[place]);
        } else {
          most = Math.max(most, trace.y[place]);
        }
      });
    });
    if (!(low < high)) return;
    const isLog = chart._fullLayout.yaxis.type === "log";
    const [bottom, top] = isLog ? [Math.log10(low), Math.log10(high)] : [low, high];
    const room = (top - bottom) * 0.06;
    Plotly.relayout(chart, {
      "yaxis.range": [isLog ? bottom - room : Math.max(0, bottom - room), top + room],
      "yaxis.tickmode": isLog && high > 12 * low ? "array" : "auto", // over decades 1, 2 and 5 are ticks enough
      "yaxis2.range": [0, most * 1.06],
    });
  };
  // What was asked for is drawn first, and what this script asks for itself is no reason to fit again.
  let waiting;
  const later = (change) => {
    if (change && "yaxis2.range" in change) return;
    clearTimeout(waiting);
    waiting = setTimeout(fit, 20);
  };
  chart.on("plotly_relayout", later);
  chart.on("plotly_restyle", () => later());
  fit();
})();
