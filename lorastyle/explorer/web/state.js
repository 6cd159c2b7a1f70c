"use strict";
// What is shown, as one object, and the same in the page's address: a link shows what its sender saw.
lorastyle.makeState = (data) => {
  const COLUMNS = data.columns.map((column) => column.key);
  const named = (list, key) => list.findIndex((one) => one.key === key);
  const column = (key) => data.columns[named(data.columns, key)];
  const whole = (text, below, otherwise) => {
    const value = Number(text) - 1;
    return text !== null && Number.isInteger(value) && value >= 0 && value < below ? value : otherwise;
  };

  // Hidden values by column, as numbers. Queries are there to measure the run: hidden at first.
  function hiddenAtFirst() {
    const hidden = Object.fromEntries(COLUMNS.map((key) => [key, new Set()]));
    column("role").values.forEach((value, i) => value.hidden && hidden.role.add(i));
    return hidden;
  }

  function defaults() {
    return {
      space: 0, dims: 2, axes: [0, 1, 2], colour: "artist", hulls: false, centroids: true, equal: true,
      hidden: hiddenAtFirst(), pick: -1, query: "", area: null, theme: "",
    };
  }

  // Anything may stand in an address: what means nothing here is passed over.
  function read(text) {
    const given = new URLSearchParams(text.replace(/^#/, ""));
    const state = defaults();
    const space = named(data.spaces, given.get("space"));
    if (space >= 0) state.space = space;
    const k = data.spaces[state.space].k;
    state.axes = state.axes.map((axis, i) => whole(given.get("xyz"[i]), k, Math.min(axis, k - 1)));
    if (given.get("dims") === "3" && k > 2) state.dims = 3;
    if (COLUMNS.includes(given.get("colour"))) state.colour = given.get("colour");
    for (const name of ["hulls", "centroids", "equal"])
      if (given.has(name)) state[name] = given.get(name) === "1";
    if (["light", "dark"].includes(given.get("theme"))) state.theme = given.get("theme");
    readHidden(given, state);
    state.pick = given.has("pick") ? data.adapters.id.indexOf(given.get("pick")) : -1;
    state.query = given.get("q") || "";
    const corners = (given.get("area") || "").split("_").map((one) => one.split("~").map(Number));
    if (corners.length > 2 && corners.every((c) => c.length === 2 && c.every(Number.isFinite))) state.area = corners;
    return state;
  }

  function readHidden(given, state) {
    for (const [word, fresh] of [["hide", () => new Set()], ["only", (n) => new Set(Array(n).keys())]]) {
      for (const key of new Set(given.getAll(word).map((one) => one.split(":")[0]))) {
        if (!COLUMNS.includes(key)) continue;
        const values = column(key).values;
        const set = fresh(values.length);
        for (const one of given.getAll(word).filter((text) => text.startsWith(`${key}:`))) {
          const found = values.findIndex((value) => value.value === one.slice(key.length + 1));
          if (found >= 0) word === "hide" ? set.add(found) : set.delete(found);
        }
        state.hidden[key] = set;
      }
    }
  }

  function write(state) {
    const usual = defaults(), given = new URLSearchParams();
    if (state.space) given.set("space", data.spaces[state.space].key);
    if (state.dims === 3) given.set("dims", "3");
    state.axes.forEach((axis, i) => {
      if (axis !== usual.axes[i] && (i < 2 || state.dims === 3)) given.set("xyz"[i], axis + 1);
    });
    if (state.colour !== usual.colour) given.set("colour", state.colour);
    for (const name of ["hulls", "centroids", "equal"])
      if (state[name] !== usual[name]) given.set(name, state[name] ? "1" : "0");
    for (const key of COLUMNS) writeHidden(given, key, state.hidden[key], usual.hidden[key]);
    if (state.pick >= 0) given.set("pick", data.adapters.id[state.pick]);
    if (state.query) given.set("q", state.query);
    if (state.area) given.set("area", state.area.map((c) => c.map((v) => Number(v.toPrecision(5))).join("~")).join("_"));
    if (state.theme) given.set("theme", state.theme);
    return given.toString();
  }

  // The shorter of the two ways to say it.
  function writeHidden(given, key, set, usual) {
    if (set.size === usual.size && [...set].every((i) => usual.has(i))) return;
    const values = column(key).values;
    const hide = set.size <= values.length / 2;
    const list = values.flatMap((value, i) => (set.has(i) === hide ? [value.value] : []));
    if (!list.length) given.append(hide ? "hide" : "only", `${key}:`);
    for (const value of list) given.append(hide ? "hide" : "only", `${key}:${value}`);
  }

  return { defaults, read, write };
};
