"use strict";
// The fields and buttons beside the plot: they show the state, and change it.
lorastyle.makeControls = (app) => {
  const { data } = app;
  const SWITCHES = ["hulls", "centroids", "equal"], AXES = ["x", "y", "z"], TOOLS = ["pan", "select", "lasso"];
  const byId = (id) => document.getElementById(id);

  function options(select, list) {
    select.replaceChildren(...list.map(([value, text]) => Object.assign(document.createElement("option"), { value, textContent: text })));
  }

  // The first space that places most, preferably for the same task; -1 where this one does.
  function roomier(index) {
    const one = data.spaces[index];
    const places = (list) => Math.max(one.n_placed, ...list.map((space) => space.n_placed));
    const same = data.spaces.filter(({ task }) => task === one.task);
    const among = places(same) > one.n_placed ? same : data.spaces, most = places(among);
    return most > one.n_placed ? data.spaces.indexOf(among.find((space) => space.n_placed === most)) : -1;
  }

  function sync() {
    const { state, view } = app, { k, note } = view.space;
    const components = Array.from({ length: k }, (_, i) => [i, `${i + 1}`]);
    AXES.forEach((name, i) => {
      if (byId(name).options.length !== k) options(byId(name), components);
      byId(name).value = state.axes[i];
    });
    byId("space").value = state.space;
    byId("colour").value = state.colour;
    for (const name of SWITCHES) byId(name).checked = state[name];
    byId("dims-2").checked = state.dims === 2;
    byId("dims-3").checked = state.dims === 3;
    byId("dims-3").disabled = k < 3 || !app.gl;
    byId("gl-note").hidden = app.gl;
    byId("z-label").hidden = state.dims === 2;
    if (document.activeElement !== byId("search")) byId("search").value = state.query;
    const outside = data.adapters.id.length - view.space.n_placed;
    byId("space-note").textContent = note + (outside ? ` ${outside.toLocaleString("en")} of the adapters have no place in it.` : "");
    const larger = roomier(state.space);
    byId("space-other").hidden = larger < 0;
    byId("space-other").textContent = larger < 0 ? "" : `See them in ${data.spaces[larger].name}`;
    for (const name of TOOLS) {
      byId(`tool-${name}`).setAttribute("aria-pressed", String(app.tool === name && state.dims === 2));
      byId(`tool-${name}`).disabled = state.dims === 3;
    }
  }

  function listenToSearch() {
    const field = byId("search");
    let waiting = 0;
    field.addEventListener("input", () => {
      clearTimeout(waiting);
      waiting = setTimeout(() => app.change({ query: field.value }), data.adapters.id.length > 20000 ? 300 : 80);
    });
    field.addEventListener("keydown", async (event) => {
      if (event.key !== "Enter") return;
      clearTimeout(waiting);
      await app.change({ query: field.value });
      if (app.view.found.rows.length) app.actions.pick(app.view.found.rows[0]);
    });
  }

  function listenToFields() {
    const tasks = [...new Set(data.spaces.map((space) => space.task))];
    byId("space").replaceChildren(...tasks.map((task) => {
      const group = Object.assign(document.createElement("optgroup"), { label: `for ${task}` });
      options(group, data.spaces.flatMap((space, i) => (space.task === task ? [[i, space.name]] : [])));
      return group;
    }));
    options(byId("colour"), data.columns.map((column) => [column.key, column.name.toLowerCase()]));
    byId("space").addEventListener("change", (event) => app.change({ space: Number(event.target.value) }));
    AXES.forEach((name, i) => byId(name).addEventListener("change", (event) => {
      app.change({ axes: app.state.axes.map((axis, j) => (i === j ? Number(event.target.value) : axis)) });
    }));
    byId("colour").addEventListener("change", (event) => app.change({ colour: event.target.value }));
    for (const name of SWITCHES)
      byId(name).addEventListener("change", (event) => app.change({ [name]: event.target.checked }));
    for (const dims of [2, 3]) byId(`dims-${dims}`).addEventListener("change", () => app.change({ dims }));
  }

  function listenToButtons() {
    const hide = (values) => app.change({ hidden: { ...app.state.hidden, [app.state.colour]: new Set(values) } });
    byId("space-other").addEventListener("click", () => app.change({ space: roomier(app.state.space) }));
    byId("legend-all").addEventListener("click", () => hide([]));
    byId("legend-none").addEventListener("click", () => hide(app.view.column.values.keys()));
    byId("theme").addEventListener("click", () => app.change({ theme: app.view.theme.name === "dark" ? "light" : "dark" }));
    for (const name of TOOLS)
      byId(`tool-${name}`).addEventListener("click", () => { app.tool = name; app.draw(); });
    byId("fit").addEventListener("click", () => { app.reset++; app.draw(); });
  }

  // Reading and Tab follow what is seen: on a narrow page the plot is first, and on a narrower one
  // what is known of an adapter comes before what is shown.
  function inReadingOrder() {
    const order = narrower.matches ? ["stage", "details", "controls"] : narrow.matches ? ["stage", "controls", "details"] : ["controls", "stage", "details"];
    document.querySelector("main").append(...order.map(byId));
  }
  const narrow = matchMedia("(max-width: 1080px)"), narrower = matchMedia("(max-width: 700px)");
  for (const width of [narrow, narrower]) width.addEventListener("change", inReadingOrder);

  inReadingOrder();
  listenToSearch();
  listenToFields();
  listenToButtons();
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", app.draw);
  return { sync };
};
