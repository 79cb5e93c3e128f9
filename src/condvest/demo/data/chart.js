// Fit the prices and the volume to the bars in sight: plotly itself fits them to all bars there are.
(() => {
  const chart = document.getElementById("{plot_id}");
  let fitting = false;
  const fit = () => {
    if (fitting) return;
    const [from, to] = chart._fullLayout.xaxis.range.map((at) => new Date(at).getTime());
    let low = Infinity, high = -Infinity, most = 0;
    chart._fullData.forEach((trace) => {
      if (trace.visible !== true) return;
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
    const scale = isLog ? Math.log10 : (value) => value;
    const room = (scale(high) - scale(low)) * 0.06;
    fitting = true;
    Plotly.relayout(chart, {
      "yaxis.range": [scale(low) - room, scale(high) + room],
      "yaxis2.range": [0, most * 1.06],
    }).then(() => { fitting = false; });
  };
  chart.on("plotly_relayout", fit);
  chart.on("plotly_restyle", fit);
  fit();
})();
