"use strict";
// From the state to what Plotly draws: traces, layout, and which row each mark is.
lorastyle.makeFigure = (data) => {
  const { centroid } = lorastyle.geometry;
  const MOST_HULLS = 60, MOST_NAMES = 40;
  const roles = data.columns.find((column) => column.key === "role");
  const escaped = (text) => text.replace(/&/g, "&amp;").replace(/</g, "&lt;").replace(/>/g, "&gt;");
  const shorter = (text) => (text.length > 40 ? `${text.slice(0, 39)}…` : text);

  function figure(view) {
    const { state, space, rows, theme } = view;
    const flat = state.dims === 2;
    const type = flat ? (view.gl ? "scattergl" : "scatter") : "scatter3d";
    const at = (list) => place(space, state, list);
    const groups = groupsOf(view);
    const marks = traceRows(view).map(({ role, list }) => ({
      type, mode: "markers", ...at(list), hoverinfo: "none", rows: list,
      marker: {
        symbol: roles.values[role].symbol[state.dims - 2],
        size: size(view) * roles.values[role].scale, color: colours(view, list),
        line: { width: rows.length > 20000 ? 0 : 0.6, color: theme.paper },
      },
    }));
    const traces = [...marks, ...links(view, type, at), ...rings(view, type, at)];
    const annotations = [];
    const centres = state.centroids ? groups.map((group) => ({ ...group, at: centre(view, group) })) : [];
    if (centres.length) traces.push(stars(view, type, centres));
    if (centres.length <= MOST_NAMES) annotations.push(...labels(view, centres));
    const hulls = state.hulls && groups.length <= MOST_HULLS ? groups.filter(({ list }) => list.length > state.dims) : [];
    if (!flat) traces.push(...hulls.map((group) => mesh(view, group)));
    const shapes = flat ? hulls.map((group) => outline(view, group)) : [];
    if (flat && state.area) shapes.push(area(state.area, theme));
    return { traces, layout: layout(view, annotations, shapes), n_hulls: hulls.length, n_groups: groups.length };
  }

  function place({ scores, k }, state, list) {
    const one = (axis) => {
      const values = new Float32Array(list.length);
      for (let i = 0; i < list.length; i++) values[i] = scores[list[i] * k + axis];
      return values;
    };
    const [x, y, z] = state.axes;
    return state.dims === 2 ? { x: one(x), y: one(y) } : { x: one(x), y: one(y), z: one(z) };
  }

  const size = ({ rows, state, narrow }) => {
    const usual = rows.length > 20000 ? 3 : rows.length > 3000 ? 5 : state.dims === 2 ? 9 : 4.5;
    return narrow ? Math.max(3, 0.72 * usual) : usual;
  };

  // What is shown, a list a role; rows of one role are one trace, since they share a symbol.
  function traceRows({ rows }) {
    const lists = new Map();
    for (const row of rows) {
      const role = data.adapters.role[row];
      if (!lists.has(role)) lists.set(role, []);
      lists.get(role).push(row);
    }
    return [...lists].sort((a, b) => a[0] - b[0]).map(([role, list]) => ({ role, list }));
  }

  function colours({ column, theme, lit }, list) {
    const whole = column.values.map((value) => value.colour[theme.number]);
    const codes = data.adapters[column.key];
    return list.map((row) => (lit && !lit.has(row) ? `${whole[codes[row]]}26` : whole[codes[row]]));
  }

  function groupsOf({ column, rows }) {
    const lists = column.values.map(() => []);
    for (const row of rows) lists[data.adapters[column.key][row]].push(row);
    return lists.flatMap((list, i) => (list.length && !column.values[i].unlabelled ? [{ value: column.values[i], list }] : []));
  }

  // Held-out adapters and strangers have no part in where an artist's centre is, if it has others.
  function centre({ space, state }, { list }) {
    const fitted = list.filter((row) => roles.values[data.adapters.role[row]].value === "train");
    return centroid(space, fitted.length ? fitted : list, state.axes);
  }

  function stars({ theme, state }, type, centres) {
    const [x, y, z] = [0, 1, 2].map((i) => centres.map((group) => group.at[i]));
    const marker = {
      symbol: state.dims === 2 ? "star" : "diamond", size: state.dims === 2 ? 15 : 8,
      color: centres.map((group) => group.value.colour[theme.number]), line: { width: 1.3, color: theme.ink },
    };
    return { type, mode: "markers", x, y, ...(state.dims === 3 && { z }), marker, hoverinfo: "none", part: "centroids" };
  }

  // Names of centres, each on the side of its star where it lies over the fewest others.
  function labels({ theme, state, pixels }, centres) {
    const placed = [];
    const halo = [[1, 0], [-1, 0], [0, 1], [0, -1]].map(([x, y]) => `${2 * x}px ${2 * y}px 2px ${theme.paper}`).join(",");
    return centres.map(({ value, at: [x, y, z] }) => {
      const name = shorter(value.name), half = 3.3 * name.length;
      const sides = state.dims === 2 ? [[0, 18], [0, -18], [half + 13, 0], [-half - 13, 0], [0, 32], [0, -32]] : [[0, 15]];
      const boxes = sides.map(([right, up]) => [x * pixels[0] + right, y * pixels[1] + up, half, right, up]);
      const cost = (box) => placed.reduce((sum, other) => sum + overlap(box, other), 0);
      const best = boxes.reduce((least, box) => (cost(box) < cost(least) ? box : least));
      placed.push(best, [x * pixels[0], y * pixels[1], 9]);
      const font = { size: 11.5, color: theme.ink, shadow: halo };
      const made = { x, y, showarrow: false, xshift: best[3], yshift: best[4], text: escaped(name), font };
      return state.dims === 2 ? made : { ...made, z };
    });
  }

  // Area that two labels share, in square pixels; each is 14 high.
  const overlap = ([x, y, half], [a, b, other]) =>
    Math.max(0, half + other - Math.abs(x - a)) * Math.max(0, 14 - Math.abs(y - b));

  function links({ space, state, pick, neighbours, theme }, type) {
    if (pick < 0) return [];
    const { scores, k } = space;
    const line = (axis) => neighbours.flatMap(({ row }) => [scores[pick * k + axis], scores[row * k + axis], null]);
    const [x, y, z] = state.axes.map(line);
    return [{
      type, mode: "lines", x, y, ...(state.dims === 3 && { z }), hoverinfo: "skip", part: "links",
      line: { color: `${theme.muted}`, width: state.dims === 2 ? 1 : 2 },
    }];
  }

  function rings(view, type, at) {
    const { state, theme, pick, neighbours } = view;
    if (pick < 0) return [];
    const ring = (list, part, wide, width, colour) => ({
      type, mode: "markers", ...at(list), hoverinfo: "skip", part,
      marker: { symbol: "circle-open", size: wide, color: colour, line: { width, color: colour } },
    });
    const grown = state.dims === 2 ? 1 : 0.8;
    return [
      ring(neighbours.map(({ row }) => row), "neighbours", (size(view) + 7) * grown, 1.5, theme.ink),
      ring([pick], "pick", (size(view) + 12) * grown, 3, theme.accent),
    ];
  }

  function outline({ space, state, theme }, { value, list }) {
    const { scores, k } = space, [x, y] = state.axes;
    const corners = convexHull(list.map((row) => [scores[row * k + x], scores[row * k + y]]));
    const colour = value.colour[theme.number];
    const path = `M${corners.map((corner) => corner.join(",")).join("L")}Z`;
    return { type: "path", path, layer: "below", fillcolor: `${colour}24`, line: { color: `${colour}90`, width: 1.2 } };
  }

  function mesh({ space, state, theme }, { value, list }) {
    return {
      type: "mesh3d", ...place(space, state, list), alphahull: 0, opacity: 0.13, hoverinfo: "skip",
      color: value.colour[theme.number], flatshading: true, part: "hull",
    };
  }

  function area(corners, theme) {
    const path = `M${corners.map((corner) => corner.join(",")).join("L")}Z`;
    return { type: "path", path, line: { color: theme.accent, width: 1.4, dash: "dot" }, fillcolor: `${theme.accent}12` };
  }

  function layout(view, annotations, shapes) {
    const { state, space, theme } = view;
    const title = (i) => {
      const share = (100 * space.explained[state.axes[i]]).toFixed(1);
      return `component ${state.axes[i] + 1} · ${share} %${state.dims === 2 ? " of the variance" : ""}`;
    };
    const axis = (i) => ({
      title: { text: title(i), font: { size: 12, color: theme.muted }, standoff: 6 },
      gridcolor: theme.rule, zerolinecolor: theme.rule, zerolinewidth: 1.5, color: theme.muted, tickfont: { size: 10.5 },
      nticks: 6, automargin: true, linecolor: theme.rule, showspikes: false,
    });
    const common = {
      paper_bgcolor: "rgba(0,0,0,0)", plot_bgcolor: "rgba(0,0,0,0)", showlegend: false, hovermode: "closest",
      font: { family: theme.font, color: theme.ink }, margin: { l: 8, r: 12, t: 12, b: 8 }, autosize: true,
      // What the reader zoomed into or turned stays, until other axes are shown.
      uirevision: [space.key, state.dims, ...state.axes, state.equal, view.reset].join("/"), selections: [],
      selectionrevision: view.selections,
    };
    if (state.dims === 2) {
      const together = state.equal ? { scaleanchor: "x", scaleratio: 1 } : {};
      return { ...common, xaxis: axis(0), yaxis: { ...axis(1), ...together }, dragmode: view.tool, annotations, shapes };
    }
    const scene = {
      xaxis: { ...axis(0), backgroundcolor: "rgba(0,0,0,0)" }, yaxis: axis(1), zaxis: axis(2), annotations,
      aspectmode: state.equal ? "data" : "cube", dragmode: "orbit",
      camera: { eye: { x: 1.3, y: 1.3, z: 1 }, center: { x: 0, y: 0, z: -0.12 } },
    };
    return { ...common, scene, margin: { l: 0, r: 0, t: 0, b: 0 } };
  }

  return figure;
};
