"use strict";
// The explorer: one state, drawn anew when it changes.
(async () => {
  const byId = (id) => document.getElementById(id);
  const data = await lorastyle.load("adapters");
  if (data.pictures.n && !data.pictures.folder) data.pictures.inside = await lorastyle.load("pictures");
  const CONFIG = { displayModeBar: false, scrollZoom: true, responsive: true, doubleClick: false, plotlyServerURL: "" };
  const { read, write, defaults } = lorastyle.makeState(data);
  const look = lorastyle.makeLook(data), figure = lorastyle.makeFigure(data);
  const plot = byId("plot"), names = lorastyle.makeNames(plot, byId("names"));
  const n = data.adapters.id.length;
  const canvas = document.createElement("canvas");
  const app = {
    data, draw, change, view: null, drawn: null, listening: false, tool: "pan", reset: 0, selections: 0,
    gl: Boolean(canvas.getContext("webgl2") || canvas.getContext("webgl")),
  };

  function take(address) {
    app.state = read(address);
    if (!app.gl) app.state.dims = 2;
  }

  let turn = 0;
  async function draw() {
    const mine = ++turn, view = await look(app.state);
    if (mine !== turn) return;  // a later change overtook this one while its space was loaded
    const { gl, tool, reset, selections } = app;
    const marks = figure({ ...view, gl, tool, reset, selections, pick: view.placed ? view.pick : -1 });
    // Plotly tells what lies under the pointer while it still draws: in terms of the new marks.
    Object.assign(app, { view, drawn: marks.traces });
    keepCamera(marks.layout);
    names.show(marks.names);
    await Plotly.react(plot, marks.traces, marks.layout, CONFIG);
    if (gl && plot.querySelector(".no-webgl")) return withoutGl();
    byId("loading").hidden = true;
    if (!app.listening) for (const one of [pointer, names]) one.listenToPlot();
    names.follow();
    app.listening = true;
    describe(marks);
    Object.assign(lorastyle, { view, drawn: marks.traces, ready: mine });
  }

  // Plotly remembers what was turned with the mouse, not what buttons and keys did.
  function keepCamera({ scene, uirevision }) {
    const before = plot._fullLayout && plot._fullLayout.scene;
    if (scene && before && before._scene && plot.layout.uirevision === uirevision) scene.camera = before._scene.getCamera();
  }

  // Where WebGL was promised and then failed: marks are drawn without it, in two dimensions.
  function withoutGl() {
    Plotly.purge(plot);
    Object.assign(app, { gl: false, listening: false });
    app.state.dims = 2;
    return draw();
  }

  function describe(marks) {
    const { view, state } = app, focus = document.activeElement;
    document.documentElement.dataset.theme = view.theme.name;
    byId("count").textContent = `${panels.number(view.rows.length)} of ${panels.number(n)} adapters shown`;
    byId("hull-note").textContent = state.hulls && marks.n_groups && !marks.n_hulls ? "Too many groups, or too few adapters in each: show fewer." : "";
    say();
    controls.sync();
    panels.legend(view, counts());
    panels.search(view, view.found);
    panels.details(view);
    panels.area(view);
    if (!document.contains(focus)) keepFocus(focus);
    const address = write(state);
    if (address !== location.hash.slice(1)) history.replaceState(null, "", `#${address}`);
  }

  // Lists are made anew. Who was on a button goes on from the same one or, where that is gone,
  // from what it led to.
  function keepFocus({ dataset: { key } }) {
    const same = [...document.querySelectorAll("[data-key]")].find((one) => one.dataset.key === key);
    (same || (app.state.pick >= 0 ? byId("picked") : plot)).focus();
  }

  // For those who do not see the plot; read out when it changes.
  function say() {
    const { state: { axes, dims }, rows, space, neighbours: [near], pick, placed, area } = app.view;
    const name = (row) => data.adapters.id[row];
    const on = axes.slice(0, dims).map((axis) => axis + 1).join(dims === 2 ? " and " : ", ");
    plot.setAttribute("aria-label", `Plot: ${rows.length} adapters on components ${on} of ${space.name}`);
    const where = !placed ? ", which has no place in this space" : near ? `, nearest ${name(near.row)} at ${near.distance.toPrecision(3)}` : "";
    const text = [...(area ? [`${panels.adapters(area.length)} in the area`] : []), ...(pick < 0 ? [] : [name(pick) + where])].join("; ");
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
    const { state } = app;
    Object.assign(state, changes);
    const { k } = data.spaces[state.space];
    state.axes = state.axes.map((axis) => Math.min(axis, k - 1));
    if (k < 3) state.dims = 2;
    // An area is of the axes that it was drawn on.
    if (["space", "axes", "dims"].some((key) => key in changes)) state.area = null;
    return draw();
  }

  app.actions = {
    pick: (row) => (row === app.state.pick ? undefined : change({ pick: row })),
    area: (corners) => change({ area: corners }),
    toggle: (key, i) => {
      const set = new Set(app.state.hidden[key]);
      if (!set.delete(i)) set.add(i);
      return change({ hidden: { ...app.state.hidden, [key]: set } });
    },
    only: (key, i) => {
      const others = data.columns.find((column) => column.key === key).values.map((_, one) => one).filter((one) => one !== i);
      const hidden = app.state.hidden[key], already = hidden.size === others.length && !hidden.has(i);
      const set = already ? defaults().hidden[key] : new Set(others);
      return change({ hidden: { ...app.state.hidden, [key]: set } });
    },
  };
  const panels = lorastyle.makePanels(data, app.actions);
  const controls = lorastyle.makeControls(app), pointer = lorastyle.makePointer(app, panels);
  take(location.hash);
  addEventListener("hashchange", () => { take(location.hash); draw(); });
  await draw();
})();

// Files of a folder may be missing: whatever fails later than its call ends here.
addEventListener("unhandledrejection", (event) => {
  const note = document.getElementById("loading");
  note.hidden = false;
  note.textContent = `This cannot be shown: ${event.reason.message}`;
});
