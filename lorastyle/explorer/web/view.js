"use strict";
// From the state to what it shows: which adapters, which of them match, who is nearest.
lorastyle.makeLook = (data) => {
  const N_NEIGHBOURS = 12;
  const byId = (id) => document.getElementById(id);
  const n = data.adapters.id.length, spaces = new Map();
  const dark = matchMedia("(prefers-color-scheme: dark)");
  const columnOf = (key) => data.columns.find((column) => column.key === key);

  async function spaceOf(index) {
    if (!spaces.has(index)) {
      const facts = data.spaces[index];
      spaces.set(index, { ...facts, scores: lorastyle.floats(await lorastyle.load(`space-${index}`)) });
    }
    return spaces.get(index);
  }

  function theme(state) {
    const name = state.theme || (dark.matches ? "dark" : "light");
    const font = getComputedStyle(document.body).fontFamily;
    return { name, number: name === "dark" ? 1 : 0, font, ...data.theme[name] };
  }

  function shownRows(state, space) {
    const off = data.columns.map(({ key, values }) => [data.adapters[key], values.map((_, i) => state.hidden[key].has(i))]);
    const rows = [];
    for (let row = 0; row < n; row++) {
      if (!Number.isNaN(space.scores[row * space.k]) && off.every(([codes, hidden]) => !hidden[codes[row]])) rows.push(row);
    }
    return rows;
  }

  function matches(state, rows) {
    const words = state.query.toLowerCase().split(/\s+/).filter(Boolean);
    if (!words.length) return { rows: [], values: [], n_hidden: 0 };
    const has = (text) => words.every((word) => text.includes(word));
    const named = columnOf("artist").values.map((value) => `${value.name} ${value.value}`.toLowerCase());
    const values = ["artist", "genre"].flatMap((key) => columnOf(key).values.flatMap((value, i) =>
      !value.unlabelled && has(`${value.name} ${value.value}`.toLowerCase()) ? [[key, i]] : []));
    const does = (row) => has(`${data.adapters.id[row].toLowerCase()} ${named[data.adapters.artist[row]]}`);
    const found = rows.filter(does), all = data.adapters.id.reduce((sum, _, row) => sum + does(row), 0);
    return { rows: found, values, n_hidden: all - found.length };
  }

  function rowsInArea(state, space, rows) {
    if (!state.area || state.dims === 3) return null;
    const [x, y] = state.axes, { scores, k } = space;
    return rows.filter((row) => lorastyle.geometry.inside(state.area, scores[row * k + x], scores[row * k + y]));
  }

  async function look(state) {
    const space = await spaceOf(state.space);
    const rows = shownRows(state, space), found = matches(state, rows), area = rowsInArea(state, space, rows);
    const pick = state.pick, placed = pick >= 0 && !Number.isNaN(space.scores[pick * space.k]);
    const neighbours = placed ? lorastyle.geometry.nearest(space, rows, pick, N_NEIGHBOURS) : [];
    const lit = area ? new Set(area) : state.query ? new Set(found.rows) : null;
    return {
      state, space, rows, found, area, pick, placed, neighbours, lit, theme: theme(state), column: columnOf(state.colour),
      narrow: byId("stage").clientWidth < 520, upright: byId("plot").clientHeight / Math.max(byId("plot").clientWidth, 1),
    };
  }

  return look;
};
