"use strict";
// The explorer: the state, and what happens when it changes.
(async () => {
  const byId = (id) => document.getElementById(id);
  const data = await lorastyle.load("adapters");
  if (data.pictures.n && !data.pictures.folder) data.pictures.inside = await lorastyle.load("pictures");
  const N_NEIGHBOURS = 12;
  const n = data.adapters.id.length;
  const { read, write, defaults } = lorastyle.makeState(data);
  const figure = lorastyle.makeFigure(data);
  const plot = byId("plot"), stage = byId("stage");
  const dark = matchMedia("(prefers-color-scheme: dark)");
  const spaces = new Map();
  let listening = false;
  let state = read(location.hash), view = null, tool = "pan", reset = 0, selections = 0, drawn = null;
  const columnOf = (key) => data.columns.find((column) => column.key === key);

  let gl = (() => {
    const canvas = document.createElement("canvas");
    return Boolean(canvas.getContext("webgl2") || canvas.getContext("webgl"));
  })();

  async function spaceOf(index) {
    if (!spaces.has(index)) {
      const facts = data.spaces[index];
      spaces.set(index, { ...facts, scores: lorastyle.floats(await lorastyle.load(`space-${index}`)) });
    }
    return spaces.get(index);
  }

  function theme() {
    const name = state.theme || (dark.matches ? "dark" : "light");
    const font = getComputedStyle(document.body).fontFamily;
    return { name, number: name === "dark" ? 1 : 0, font, ...data.theme[name] };
  }

  function shownRows(space) {
    const off = data.columns.map(({ key, values }) => [data.adapters[key], values.map((_, i) => state.hidden[key].has(i))]);
    const rows = [];
    for (let row = 0; row < n; row++) {
      if (!Number.isNaN(space.scores[row * space.k]) && off.every(([codes, hidden]) => !hidden[codes[row]])) rows.push(row);
    }
    return rows;
  }

  function matches(rows) {
    const words = state.query.toLowerCase().split(/\s+/).filter(Boolean);
    if (!words.length) return { rows: [], values: [] };
    const has = (text) => words.every((word) => text.includes(word));
    const named = columnOf("artist").values.map((value) => `${value.name} ${value.value}`.toLowerCase());
    const values = ["artist", "genre"].flatMap((key) => columnOf(key).values.flatMap((value, i) =>
      !value.unlabelled && has(`${value.name} ${value.value}`.toLowerCase()) ? [[key, i]] : []));
    return { rows: rows.filter((row) => has(`${data.adapters.id[row].toLowerCase()} ${named[data.adapters.artist[row]]}`)), values };
  }

  function rowsInArea(space, rows) {
    if (!state.area || state.dims === 3) return null;
    const [x, y] = state.axes, { scores, k } = space;
    return rows.filter((row) => lorastyle.geometry.inside(state.area, scores[row * k + x], scores[row * k + y]));
  }

  // Pixels that a step of one takes on each axis when all of `rows` are shown: for labels.
  function pixelsOf({ scores, k }, rows) {
    const spans = state.axes.slice(0, 2).map((axis) => {
      let low = Infinity, high = -Infinity;
      for (const row of rows) {
        low = Math.min(low, scores[row * k + axis]);
        high = Math.max(high, scores[row * k + axis]);
      }
      return Math.max(high - low, 1e-12);
    });
    const each = [plot.clientWidth / spans[0], plot.clientHeight / spans[1]];
    return state.equal ? [Math.min(...each), Math.min(...each)] : each;
  }

  // Everything that is shown, from the state alone.
  async function look() {
    const space = await spaceOf(state.space);
    const rows = shownRows(space), found = matches(rows), area = rowsInArea(space, rows);
    const pick = state.pick, placed = pick >= 0 && !Number.isNaN(space.scores[pick * space.k]);
    const neighbours = placed ? lorastyle.geometry.nearest(space, rows, pick, N_NEIGHBOURS) : [];
    const lit = area ? new Set(area) : state.query ? new Set(found.rows) : null;
    return {
      state, space, rows, found, area, pick, neighbours, lit, theme: theme(), column: columnOf(state.colour),
      gl, tool, reset, selections, placed, pixels: pixelsOf(space, rows), narrow: stage.clientWidth < 520,
    };
  }

  let turn = 0;
  async function draw() {
    const mine = ++turn, next = await look();
    if (mine !== turn) return;  // a later change overtook this one while its space was loaded
    view = next;
    const marks = figure({ ...view, pick: view.placed ? view.pick : -1 });
    // Plotly tells what lies under the pointer while it still draws: in terms of the new marks.
    drawn = marks.traces;
    await Plotly.react(plot, marks.traces, marks.layout, { displayModeBar: false, scrollZoom: true, responsive: true, doubleClick: false, plotlyServerURL: "" });
    if (gl && plot.querySelector(".no-webgl")) return withoutGl();
    byId("loading").hidden = true;
    describe(marks);
    Object.assign(lorastyle, { view, drawn, ready: mine });
  }

  // Where WebGL was promised and then failed: marks are drawn without it, in two dimensions.
  function withoutGl() {
    gl = false;
    state.dims = 2;
    Plotly.purge(plot);
    listening = false;
    return draw();
  }

  function describe(marks) {
    document.documentElement.dataset.theme = view.theme.name;
    const { state: { axes, dims }, rows, space } = view;
    byId("count").textContent = `${panels.number(rows.length)} of ${panels.number(n)} adapters shown`;
    const on = axes.slice(0, dims).map((axis) => axis + 1).join(dims === 2 ? " and " : ", ");
    stage.setAttribute("aria-label", `Plot: ${rows.length} adapters on components ${on} of ${space.name}. Arrow keys go from one adapter to the next, Escape leaves it.`);
    byId("hull-note").textContent = state.hulls && marks.n_groups && !marks.n_hulls ? "Too many groups, or too few adapters in each: show fewer." : "";
    if (!listening) listenToPlot();
    say();
    syncControls();
    panels.legend(view, counts());
    panels.search(view, view.found);
    panels.details(view);
    panels.area(view);
    const address = write(state);
    if (address !== location.hash.slice(1)) history.replaceState(null, "", `#${address}`);
  }

  // For those who do not see the plot; read out when it changes.
  function say() {
    const name = (row) => data.adapters.id[row], near = view.neighbours[0];
    const text = view.pick < 0 ? "" : `${name(view.pick)}${near ? `, nearest ${name(near.row)} at ${near.distance.toPrecision(3)}` : ""}`;
    if (byId("said").textContent !== text) byId("said").textContent = text;
  }

  function counts() {
    return Object.fromEntries(data.columns.map(({ key, values }) => {
      const found = new Uint32Array(values.length);
      for (let row = 0; row < n; row++) found[data.adapters[key][row]]++;
      return [key, found];
    }));
  }

  function change(changes) {
    Object.assign(state, changes);
    const k = data.spaces[state.space].k;
    state.axes = state.axes.map((axis) => Math.min(axis, k - 1));
    if (k < 3) state.dims = 2;
    // An area is of the axes that it was drawn on.
    if (["space", "axes", "dims"].some((key) => key in changes)) state.area = null;
    return draw();
  }

  const actions = {
    pick: (row) => (row === state.pick ? undefined : change({ pick: row })),
    area: (corners) => change({ area: corners }),
    toggle: (key, i) => {
      const set = state.hidden[key];
      if (!set.delete(i)) set.add(i);
      return draw();
    },
    only: (key, i) => {
      const others = columnOf(key).values.map((_, one) => one).filter((one) => one !== i);
      const already = state.hidden[key].size === others.length && !state.hidden[key].has(i);
      state.hidden[key] = already ? defaults().hidden[key] : new Set(others);
      return draw();
    },
  };
  const panels = lorastyle.makePanels(data, actions);

  function options(select, list) {
    select.replaceChildren(...list.map(([value, text]) => Object.assign(document.createElement("option"), { value, textContent: text })));
  }

  function syncControls() {
    const { k } = view.space;
    const components = Array.from({ length: k }, (_, i) => [i, `${i + 1}`]);
    ["x", "y", "z"].forEach((name, i) => {
      if (byId(name).options.length !== k) options(byId(name), components);
      byId(name).value = state.axes[i];
    });
    byId("space").value = state.space;
    byId("colour").value = state.colour;
    for (const name of ["hulls", "centroids", "equal"]) byId(name).checked = state[name];
    byId("dims-2").checked = state.dims === 2;
    byId("dims-3").checked = state.dims === 3;
    byId("dims-3").disabled = k < 3 || !gl;
    byId("gl-note").hidden = gl;
    byId("z-label").hidden = state.dims === 2;
    if (document.activeElement !== byId("search")) byId("search").value = state.query;
    const outside = data.adapters.id.filter((_, row) => Number.isNaN(view.space.scores[row * k])).length;
    byId("space-note").textContent = view.space.note + (outside ? ` ${panels.number(outside)} of the adapters have no place in it.` : "");
    for (const name of ["pan", "select", "lasso"]) {
      byId(`tool-${name}`).setAttribute("aria-pressed", String(tool === name && state.dims === 2));
      byId(`tool-${name}`).disabled = state.dims === 3;
    }
  }

  function zoom(factor) {
    if (state.dims === 3) {
      const { eye } = plot._fullLayout.scene._scene.getCamera();
      const nearer = Object.fromEntries(Object.entries(eye).map(([key, value]) => [key, value * factor]));
      return Plotly.relayout(plot, { "scene.camera.eye": nearer });
    }
    const closer = ({ range: [a, b] }) => [(a + b) / 2 - ((b - a) / 2) * factor, (a + b) / 2 + ((b - a) / 2) * factor];
    const { xaxis, yaxis } = plot._fullLayout;
    return Plotly.relayout(plot, { "xaxis.range": closer(xaxis), "yaxis.range": closer(yaxis) });
  }

  function polygon(event) {
    if (event && event.lassoPoints) return event.lassoPoints.x.map((x, i) => [x, event.lassoPoints.y[i]]);
    if (!event || !event.range) return null;
    const { x: [a, b], y: [c, d] } = event.range;
    return [[a, c], [b, c], [b, d], [a, d]];
  }

  let pointer = [0, 0], under = -1, pressed = null;
  function show(row) {
    under = row;
    panels.tip(row, ...pointer, stage.clientWidth, stage.clientHeight);
  }

  function listenToPlot() {
    listening = true;
    const rowOf = (event) => {
      const point = event.points && event.points[0];
      const rows = point && drawn[point.curveNumber] && drawn[point.curveNumber].rows;
      return rows && point.pointNumber in rows ? rows[point.pointNumber] : -1;
    };
    plot.on("plotly_hover", (event) => show(rowOf(event)));
    plot.on("plotly_unhover", () => show(-1));
    plot.on("plotly_click", (event) => { if (rowOf(event) >= 0) actions.pick(rowOf(event)); });
    plot.on("plotly_selected", (event) => {
      const corners = polygon(event);
      if (!corners) return;
      selections++;
      actions.area(corners);
    });
  }

  function followPointer() {
    stage.addEventListener("pointermove", (event) => {
      const box = stage.getBoundingClientRect();
      pointer = [event.clientX - box.left, event.clientY - box.top];
    }, true);
    stage.addEventListener("pointerleave", () => show(-1));
    // In 3D Plotly tells of a click only if the button is down while it draws: short ones are lost.
    stage.addEventListener("pointerdown", () => { pressed = pointer; }, true);
    stage.addEventListener("pointerup", () => {
      const still = pressed && Math.hypot(pointer[0] - pressed[0], pointer[1] - pressed[1]) < 4;
      if (state.dims === 3 && still && under >= 0) actions.pick(under);
    }, true);
  }

  const ARROWS = { ArrowRight: [1, 0], ArrowLeft: [-1, 0], ArrowUp: [0, 1], ArrowDown: [0, -1] };
  function byKey(event) {
    if (event.key === "Escape" && state.pick >= 0) return actions.pick(-1);
    const direction = ARROWS[event.key];
    if (!direction || !view.rows.length) return undefined;
    event.preventDefault();
    if (!view.placed) return actions.pick(view.rows[0]);
    const next = lorastyle.geometry.towards(view.space, view.rows, state.pick, state.axes, direction);
    return next >= 0 ? actions.pick(next) : undefined;
  }

  function listen() {
    const tasks = [...new Set(data.spaces.map((space) => space.task))];
    byId("space").replaceChildren(...tasks.map((task) => {
      const group = Object.assign(document.createElement("optgroup"), { label: `for ${task}` });
      options(group, data.spaces.flatMap((space, i) => (space.task === task ? [[i, space.name]] : [])));
      return group;
    }));
    options(byId("colour"), data.columns.map((column) => [column.key, column.name.toLowerCase()]));
    byId("space").addEventListener("change", (event) => change({ space: Number(event.target.value) }));
    ["x", "y", "z"].forEach((name, i) => byId(name).addEventListener("change", (event) => {
      change({ axes: state.axes.map((axis, j) => (i === j ? Number(event.target.value) : axis)) });
    }));
    byId("colour").addEventListener("change", (event) => change({ colour: event.target.value }));
    for (const name of ["hulls", "centroids", "equal"])
      byId(name).addEventListener("change", (event) => change({ [name]: event.target.checked }));
    for (const dims of [2, 3]) byId(`dims-${dims}`).addEventListener("change", () => change({ dims }));
    let waiting = 0;
    byId("search").addEventListener("input", (event) => {
      clearTimeout(waiting);
      waiting = setTimeout(() => change({ query: event.target.value }), n > 20000 ? 300 : 80);
    });
    byId("search").addEventListener("keydown", async (event) => {
      if (event.key !== "Enter") return;
      clearTimeout(waiting);
      await change({ query: event.target.value });
      if (view.found.rows.length) actions.pick(view.found.rows[0]);
    });
    for (const name of ["pan", "select", "lasso"])
      byId(`tool-${name}`).addEventListener("click", () => { tool = name; draw(); });
    byId("nearer").addEventListener("click", () => zoom(0.7));
    byId("farther").addEventListener("click", () => zoom(1 / 0.7));
    byId("fit").addEventListener("click", () => { reset++; draw(); });
    byId("legend-all").addEventListener("click", () => { state.hidden[state.colour] = new Set(); draw(); });
    byId("legend-none").addEventListener("click", () => {
      state.hidden[state.colour] = new Set(view.column.values.keys());
      draw();
    });
    byId("theme").addEventListener("click", () => change({ theme: view.theme.name === "dark" ? "light" : "dark" }));
    dark.addEventListener("change", draw);
    stage.addEventListener("keydown", byKey);
    addEventListener("hashchange", () => {
      state = read(location.hash);
      if (!gl) state.dims = 2;
      draw();
    });
  }

  if (!gl) state.dims = 2;
  listen();
  followPointer();
  await draw();
})();

// Files of a folder may be missing: whatever fails later than its call ends here.
addEventListener("unhandledrejection", (event) => {
  const note = document.getElementById("loading");
  note.hidden = false;
  note.textContent = `This cannot be shown: ${event.reason.message}`;
});
