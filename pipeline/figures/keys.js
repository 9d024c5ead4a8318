// Figures without a mouse. In a figure that has the focus, + and - zoom, the arrows turn a space or
// move what is zoomed, 0 goes back, 1 to 9 switch an entry of the legend, s saves a picture.

(() => {
  "use strict";
  const NEARER = 0.8; // of what is seen, a step
  const STEP = 0.15;
  const TURN = Math.PI / 24;
  const ARROWS = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, 1], ArrowDown: [0, -1] };
  const ZOOMS = { "+": NEARER, "=": NEARER, "-": 1 / NEARER };
  const moves = new WeakMap(); // of a plot, where it was before the keys moved it, and is since

  document.addEventListener("keydown", (event) => {
    const plot = plotOf(event.target);
    if (!plot || event.ctrlKey || event.metaKey || event.altKey) return;
    if (pressed(plot, event.key)) event.preventDefault();
  });

  function plotOf(place) {
    if (place.matches(".js-plotly-plot")) return place;
    return place.matches("figure, [role=img]") ? place.querySelector(".js-plotly-plot") : null;
  }

  /** Do what a key says; whether it says anything here. */
  function pressed(plot, key) {
    if (key === "s") window.Plotly.downloadImage(plot, { format: "png", scale: 2, filename: "figure" });
    else if (/^[1-9]$/.test(key)) return toggled(plot, Number(key) - 1);
    else if (key in ZOOMS || key in ARROWS || key === "0") return moved(plot, key);
    else return false;
    return true;
  }

  function moved(plot, key) {
    const seen = now(plot);
    const is = (places) => JSON.stringify(places) === JSON.stringify(seen);
    const start = is(moves.get(plot)?.end) ? moves.get(plot).start : seen;
    const isFlat = !Object.keys(seen).some((name) => name.startsWith("scene"));
    // Arrows scroll the page, unless there is more of the figure than is seen.
    if (key in ARROWS && isFlat && is(start)) return false;
    const change = key === "0" ? start : Object.fromEntries(
      Object.entries(seen).map(([name, value]) => [name, next(name, value, key)]),
    );
    window.Plotly.relayout(plot, change).then(() => moves.set(plot, { start, end: now(plot) }));
    return true;
  }

  /** What can be moved: where the eye of each space is, and the range of each axis. */
  function now(plot) {
    const whole = plot._fullLayout;
    return Object.fromEntries(Object.keys(whole).flatMap((name) => {
      if (/^scene\d*$/.test(name)) return [[`${name}.camera.eye`, { ...whole[name].camera.eye }]];
      const isAxis = /^[xy]axis\d*$/.test(name) && !whole[name].fixedrange;
      return isAxis ? [[`${name}.range`, [...whole[name].range]]] : [];
    }));
  }

  function next(name, value, key) {
    if (name.startsWith("scene")) return turned(value, ARROWS[key] ?? [0, 0], ZOOMS[key] ?? 1);
    const [low, high] = value;
    const half = ((high - low) / 2) * (ZOOMS[key] ?? 1);
    const by = STEP * (high - low) * (ARROWS[key] ?? [0, 0])[name.startsWith("x") ? 0 : 1];
    const middle = (low + high) / 2 + by;
    return [middle - half, middle + half];
  }

  function turned({ x, y, z }, [right, up], zoom) {
    const far = Math.hypot(x, y, z) * zoom;
    const around = Math.atan2(y, x) + right * TURN;
    const above = Math.max(-1.5, Math.min(1.5, Math.atan2(z, Math.hypot(x, y)) + up * TURN));
    return {
      x: far * Math.cos(above) * Math.cos(around),
      y: far * Math.cos(above) * Math.sin(around),
      z: far * Math.sin(above),
    };
  }

  function toggled(plot, at) {
    const traces = plot._fullData.filter((trace) => trace.showlegend && plot._fullLayout.showlegend);
    const entries = [...new Set(traces.map(entry))];
    if (at >= entries.length) return false;
    const chosen = plot._fullData.filter((trace) => entry(trace) === entries[at]);
    const isShown = chosen[0].visible === true;
    window.Plotly.restyle(plot, { visible: isShown ? "legendonly" : true }, chosen.map((trace) => trace.index));
    return true;
  }

  function entry(trace) {
    return trace.legendgroup || trace.name;
  }
})();
