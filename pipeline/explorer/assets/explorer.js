// What runs in the browser: the complex at the scale of its slider, and the address.
// No move of the slider asks the server: see `draw`.

(() => {
  "use strict";
  const LABELS = 40; // tokens written beside their points in space
  const EDGES = 1500; // that are drawn, the shortest; more are one colour, and take long
  const TRIANGLES = 300; // and the first of these
  const FEW = 250; // edges that any machine paints in time, without triangles
  const SOON = 100; // ms from a move of the slider to its picture
  const SETTLE = 400; // ms without a key before a text goes to its model
  const unchanged = () => window.dash_clientside.no_update; // there once Dash has started
  const element = (id) => document.getElementById(id);

  // ---------------------------------------------------------------- texts, views, images

  let typing = null;
  let settled = false;

  /** The texts, once nobody types; at once when the page opens. */
  function settle(a, b) {
    const texts = { a: a ?? "", b: b ?? "" };
    if (!settled) {
      settled = a !== undefined && a !== null;
      return settled ? texts : unchanged();
    }
    if (typing) typing();
    return new Promise((resolve) => {
      const timer = setTimeout(() => resolve(texts), SETTLE);
      typing = () => { clearTimeout(timer); resolve(unchanged()); };
    });
  }

  function show(view, reads) {
    return `view-${view} reads-${reads ?? "texts"}`;
  }

  /** An image is the file that was given last, or the one of the corpus that was chosen last. */
  function either(contents, id, filename) {
    const changed = window.dash_clientside.callback_context.triggered_id ?? "";
    if (changed.startsWith("upload")) {
      return contents ? [unchanged(), null, filename] : [unchanged(), unchanged(), ""];
    }
    return id ? [null, unchanged(), ""] : [unchanged(), unchanged(), unchanged()];
  }

  // ---------------------------------------------------------------- the address

  let query = null; // as the server last wrote it
  let share = 0; // the scale, as a share of the diameter
  let writing = null;

  function link(written) {
    if (written === null || written === undefined) return;
    query = written;
    address();
  }

  function address() {
    // A browser refuses more than some addresses a second.
    clearTimeout(writing);
    writing = setTimeout(() => {
      if (query === null) return;
      const fields = new URLSearchParams(query);
      fields.set("scale", String(share));
      window.history.replaceState(window.history.state, "", `?${fields}`);
    }, 200);
  }

  // ---------------------------------------------------------------- the complex

  let space = null; // what the server sent, and what is made of it once

  /** Draw a complex that came; or the same at the scale that a link says. */
  function draw(data, scale) {
    if (scale !== null && scale !== undefined && space === null) share = scale;
    element("space-view").hidden = !data;
    if (!data || (space && space.data === data)) return;
    space = prepared(data);
    whenLoaded(() => {
      if (space.data !== data) return;
      slider();
      words();
      redraw();
    });
  }

  /** Plotly comes with the first figure of Dash, which may be later than what it shall draw. */
  function whenLoaded(work) {
    if (window.Plotly) work();
    else setTimeout(() => whenLoaded(work), 50);
  }

  function prepared(data) {
    const points = data.positions;
    const line = [0, 1, 2].map(() => new Float32Array(3 * data.edges.length));
    data.edges.forEach(([i, j], edge) => {
      for (let axis = 0; axis < 3; axis += 1) {
        line[axis].set([points[i][axis], points[j][axis], NaN], 3 * edge);
      }
    });
    const corners = [0, 1, 2].map((k) => Int32Array.from(data.triangles, (triangle) => triangle[k]));
    const axes = [0, 1, 2].map((axis) => Float32Array.from(points, (point) => point[axis]));
    return { data, line, corners, axes, ranges: ball(axes) };
  }

  /** Ranges of the axes that hold all points whichever way the space is turned. */
  function ball(axes) {
    const centre = axes.map((values) => (Math.min(...values) + Math.max(...values)) / 2);
    const far = axes[0].map((_, i) => Math.hypot(...axes.map((values, k) => values[i] - centre[k])));
    const radius = Math.max(...far) * 1.05 || 1;
    return centre.map((middle) => [middle - radius, middle + radius]);
  }

  /** How many of ascending values are at most a bound. */
  function upTo(values, bound) {
    let low = 0;
    let high = values.length;
    while (low < high) {
      const middle = (low + high) >> 1;
      if (values[middle] <= bound) low = middle + 1;
      else high = middle;
    }
    return low;
  }

  /** The clusters at a scale: of each point its cluster, and the clusters by size, large first. */
  function clusters(scale) {
    const { tree, labels } = space.data;
    const n = labels.length;
    const top = Int32Array.from({ length: 2 * n - 1 }, (_, node) => node);
    let merges = 0;
    while (merges < tree.length && tree[merges][2] <= scale) merges += 1;
    for (let row = merges - 1; row >= 0; row -= 1) {
      top[tree[row][0]] = top[tree[row][1]] = top[n + row];
    }
    const found = new Map();
    for (let i = 0; i < n; i += 1) {
      if (!found.has(top[i])) found.set(top[i], []);
      found.get(top[i]).push(i);
    }
    const groups = [...found.values()].sort((a, b) => b.length - a.length);
    const of = new Int32Array(n);
    groups.forEach((members, rank) => members.forEach((i) => { of[i] = rank; }));
    return { groups, of };
  }

  function colour(groups, rank) {
    const { palette, quiet } = space.data;
    return groups[rank].length > 1 && rank < palette.length ? palette[rank] : quiet;
  }

  function redraw() {
    const start = performance.now();
    const { data } = space;
    const scale = share * data.diameter;
    const found = clusters(scale);
    const edges = upTo(data.lengths, scale);
    const drawn = Math.min(edges, data.edges.length, EDGES);
    const triangles = upTo(data.scales, scale);
    paint(found, drawn, Math.min(triangles, TRIANGLES));
    mark(found);
    list(found);
    element("counts").textContent =
      `Scale ${scale.toPrecision(4)} of ${data.diameter.toPrecision(4)}: ` +
      `${counted(data.labels.length, "token")} in ${counted(found.groups.length, "cluster")}, ` +
      counted(edges, "edge") + (drawn < edges ? ` (${drawn.toLocaleString("en")} drawn)` : "") +
      `, ${capped(triangles) ? "over " : ""}${counted(triangles, "triangle")}` +
      (triangles > TRIANGLES ? ` (${TRIANGLES} drawn).` : ".");
    performance.measure("redraw", { start });
  }

  let slow = false; // whether all of it once took too long
  let resting = null;

  /** Without a graphics card much of it is slow: that comes when the slider rests. */
  function paint(found, edges, triangles) {
    const many = edges > FEW || triangles > 0;
    const all = () => {
      const start = performance.now();
      plot(found, edges, triangles);
      requestAnimationFrame(() => requestAnimationFrame(() => {
        slow = slow || (many && performance.now() - start > SOON);
      }));
    };
    clearTimeout(resting);
    if (!slow || !many) {
      all();
      return;
    }
    plot(found, Math.min(edges, FEW), 0);
    resting = setTimeout(all, 3 * SOON);
  }

  function counted(number, noun) {
    return `${number.toLocaleString("en")} ${noun}${number === 1 ? "" : "s"}`;
  }

  /** Whether there may be more triangles than were sent. */
  function capped(triangles) {
    const n = space.data.labels.length;
    return triangles === space.data.scales.length && triangles < (n * (n - 1) * (n - 2)) / 6;
  }

  function plot({ groups, of }, edges, triangles) {
    const { axes: [x, y, z], line, corners, ranges, data } = space;
    const colours = Array.from(of, (rank) => colour(groups, rank));
    const few = data.labels.length <= LABELS;
    const names = data.labels.map((label, i) => (
      groups[of[i]].length > 1 ? `${label}<br>cluster ${of[i] + 1}` : label
    ));
    const traces = [
      {
        type: "mesh3d", x, y, z, opacity: 0.12, color: "#56B4E9", hoverinfo: "skip",
        i: corners[0].subarray(0, triangles),
        j: corners[1].subarray(0, triangles),
        k: corners[2].subarray(0, triangles),
        visible: triangles > 0, // without any, plotly would make its own
      },
      {
        type: "scatter3d", mode: "lines", hoverinfo: "skip", line: { color: "#8a8a8a", width: edges > 300 ? 1 : 2 },
        x: line[0].subarray(0, 3 * edges),
        y: line[1].subarray(0, 3 * edges),
        z: line[2].subarray(0, 3 * edges),
      },
      {
        type: "scatter3d", mode: few ? "markers+text" : "markers", x, y, z, text: data.labels,
        textposition: "top center", textfont: { size: 11 }, hovertext: names, hoverinfo: "text",
        marker: { size: few ? 6 : 4, color: colours, opacity: 1 },
      },
    ];
    const [xaxis, yaxis, zaxis] = ranges.map((range) => ({ visible: false, range }));
    // From where it was last looked at.
    const camera = element("plot").layout?.scene.camera ?? { eye: { x: 0.8, y: 0.8, z: 0.55 } };
    const layout = {
      height: 520, margin: { l: 0, r: 0, t: 0, b: 0 }, showlegend: false, uirevision: "space",
      font: { family: "system-ui, sans-serif", color: "#1a1a1a" },
      scene: { xaxis, yaxis, zaxis, aspectmode: "cube", camera },
    };
    window.Plotly.react(element("plot"), traces, layout, JSON.parse(element("plot").dataset.config));
  }

  /** The plot follows its place, which may have been hidden, or of another width. */
  function follow() {
    const place = element("plot");
    new ResizeObserver(() => {
      if (place.offsetWidth && place.data) window.Plotly.Plots.resize(place);
    }).observe(place);
  }

  /** The slider, made once: a native one, in thousandths of the diameter. */
  function slider() {
    if (!element("scale-input")) {
      const label = document.createElement("label");
      label.htmlFor = "scale-input";
      label.textContent = "Scale, from 0 to the diameter";
      const input = document.createElement("input");
      Object.assign(input, { id: "scale-input", type: "range", min: 0, max: 1000, step: 1 });
      input.addEventListener("input", () => {
        share = Number(input.value) / 1000;
        said(input);
        redraw();
        address();
      });
      element("slider").append(label, input);
      follow();
    }
    element("scale-input").value = Math.round(share * 1000);
    share = Number(element("scale-input").value) / 1000;
    said(element("scale-input"));
  }

  function said(input) {
    input.setAttribute("aria-valuetext", (share * space.data.diameter).toPrecision(4));
  }

  // ---------------------------------------------------------------- the text itself

  /** The tokens of the text as it was written, each in a place of its own. */
  function words() {
    const parts = space.data.words.flatMap(([gap, token, point, own]) => {
      const word = document.createElement("span");
      word.className = point < 0 ? "token outside" : "token";
      word.dataset.point = point;
      if (own) word.dir = "auto"; // so that the text's own letters decide where it begins
      word.append(token, document.createElement("sup"));
      return [gap, word];
    });
    element("marked").replaceChildren(...parts);
    space.spans = [...element("marked").querySelectorAll(".token:not(.outside)")];
  }

  function mark({ groups, of }) {
    for (const span of space.spans) {
      const rank = of[span.dataset.point];
      const together = groups[rank].length > 1;
      const number = together ? String(rank + 1) : "";
      if (span.lastChild.textContent === number) continue; // what is the same needs no new layout
      span.style.setProperty("--cluster", together ? colour(groups, rank) : "transparent");
      span.lastChild.textContent = number;
    }
  }

  function list({ groups }) {
    const together = groups.filter((members) => members.length > 1);
    const alone = groups.length - together.length;
    const items = together.slice(0, 16).map((members, rank) => {
      const item = document.createElement("li");
      item.style.setProperty("--cluster", colour(groups, rank));
      item.textContent = `${rank + 1}: ${counted(members.length, "token")}`;
      return item;
    });
    const rest = [];
    if (together.length > items.length) rest.push(`${together.length - items.length} smaller`);
    if (alone) rest.push(`${counted(alone, "token")} alone`);
    for (const words of rest) {
      const item = document.createElement("li");
      item.style.setProperty("--cluster", space.data.quiet);
      item.textContent = words;
      items.push(item);
    }
    element("clusters").replaceChildren(...items);
  }

  window.dash_clientside = window.dash_clientside ?? {};
  window.dash_clientside.explorer = { settle, show, either, link, draw };
})();
