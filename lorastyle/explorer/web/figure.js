"use strict";
// From the state to what Plotly draws: traces, layout, and which row each mark is.
lorastyle.makeFigure = (data) => {
  const { centroid } = lorastyle.geometry;
  const MOST_HULLS = 60;
  const roles = data.columns.find((column) => column.key === "role");

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
        // Of crosses in 3D inner edges would show.
        line: { width: rows.length > 20000 || roles.values[role].symbol[state.dims - 2] === "cross" && !flat ? 0 : 0.6, color: theme.paper },
      },
    }));
    const traces = [...marks, ...links(view, type, at), ...rings(view, type, at)];
    const centres = state.centroids ? groups.map((group) => ({ ...group, at: centre(view, group).slice(0, state.dims) })) : [];
    if (centres.length) traces.push(stars(view, type, centres));
    const hulls = state.hulls && groups.length <= MOST_HULLS ? groups.filter(({ list }) => list.length > state.dims) : [];
    if (!flat) traces.push(...hulls.map((group) => mesh(view, group)));
    const shapes = flat ? hulls.map((group) => outline(view, group)) : [];
    if (flat && state.area) shapes.push(area(state.area, theme));
    return { traces, layout: layout(view, shapes), names: names(view, centres), n_hulls: hulls.length, n_groups: groups.length };
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
    const usual = rows.length > 20000 ? 3 : rows.length > 3000 ? 5 : state.dims === 2 ? 9 : 4.2;
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

  function colours({ column, theme, lit, state }, list) {
    const whole = column.values.map((value) => value.colour[theme.number]);
    // In 3D marks that let others through are drawn in any order, and shine: mixed with the paper instead.
    const faded = whole.map((colour) => (state.dims === 2 ? `${colour}26` : mixed(colour, theme.paper, 0.15)));
    const codes = data.adapters[column.key];
    return list.map((row) => (lit && !lit.has(row) ? faded : whole)[codes[row]]);
  }

  // `share` of one #rrggbb in another.
  function mixed(one, other, share) {
    const parts = [1, 3, 5].map((i) => [one, other].map((colour) => parseInt(colour.slice(i, i + 2), 16)));
    return `#${parts.map(([a, b]) => Math.round(share * a + (1 - share) * b).toString(16).padStart(2, "0")).join("")}`;
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
    return { type, mode: "markers", x, y, ...(state.dims === 3 && { z }), marker, hoverinfo: "none", part: "centroids", centres };
  }

  // For names.js: the chosen adapter has its name, and its group goes before the others.
  function names({ column, pick, space: { scores, k }, state }, centres) {
    const own = pick < 0 ? null : column.values[data.adapters[column.key][pick]];
    const groups = centres.map(({ value, list, at }) => ({ key: `${column.key}/${value.value}`, name: value.name, n: list.length, first: value === own, at }));
    if (pick < 0) return groups;
    const at = state.axes.slice(0, state.dims).map((axis) => scores[pick * k + axis]);
    return [{ key: "pick", name: data.adapters.id[pick], n: 1, first: true, at }, ...groups];
  }

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
      ring(neighbours.map(({ row }) => row), "neighbours", (size(view) + 7) * grown, state.dims === 2 ? 1.5 : 0.8, theme.ink),
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

  function layout(view, shapes) {
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
      return { ...common, xaxis: axis(0), yaxis: { ...axis(1), ...together }, dragmode: view.tool, shapes };
    }
    // A plot that is higher than wide is seen from farther, or its sides are cut off.
    const away = Math.max(1.15, (view.narrow ? 1.32 : 1.2) * view.upright);
    const scene = {
      xaxis: { ...axis(0), backgroundcolor: "rgba(0,0,0,0)" }, yaxis: axis(1), zaxis: axis(2),
      aspectmode: state.equal ? "data" : "cube", dragmode: "orbit",
      camera: { eye: { x: 1.3 * away, y: 1.3 * away, z: away }, center: { x: 0, y: 0, z: -0.12 } },
    };
    return { ...common, scene, margin: { l: 0, r: 0, t: 0, b: 0 } };
  }

  return figure;
};
