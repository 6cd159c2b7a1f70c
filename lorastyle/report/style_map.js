"use strict";
// The style map: one mark an adapter, on any two components of any style space.
(() => {
  const data = JSON.parse(document.getElementById("map-data").textContent);
  const svg = document.getElementById("map-canvas");
  const tip = document.getElementById("map-tip");
  const field = (name) => document.getElementById(`map-${name}`);
  const SHAPES = data.outlines;
  const state = {
    space: Math.max(0, data.spaces.findIndex((space) => space.chosen)),
    x: 0, y: 1, calibrated: true,
    kinds: new Set(data.kinds.flatMap((kind, i) => (kind.shown ? [i] : []))),
    solo: null, hover: null,
  };
  let width = 0, height = 0, places = [];

  const element = (name, attributes = {}, parent = null) => {
    const made = document.createElementNS("http://www.w3.org/2000/svg", name);
    for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
    if (parent) parent.append(made);
    return made;
  };
  const layers = Object.fromEntries(
    ["axes", "hulls", "links", "marks", "stars", "labels"].map((name) => [name, element("g", { class: name }, svg)]),
  );
  const marks = data.adapters.map(([, artist, kind]) =>
    element("path", { d: SHAPES[data.kinds[kind].shape], fill: `var(--a${artist})`, class: "mark" }, layers.marks));
  const stars = data.artists.map((_, i) =>
    element("path", { d: SHAPES.star, fill: `var(--a${i})`, class: "star" }, layers.stars));
  const hulls = data.genres.map((_, i) =>
    element("path", { class: "hull", fill: `var(--g${i})`, stroke: `var(--g${i})` }, layers.hulls));

  const space = () => data.spaces[state.space];
  // Held-out adapters have a place before calibration; for the others both are the same.
  const scores = (i, calibrated) => {
    const before = calibrated ? null : (space().before || {})[i];
    return before || space().scores[i];
  };
  const shown = (i) => state.kinds.has(data.adapters[i][2]) && space().scores[i] !== null;

  function frame() {
    const box = [Infinity, -Infinity, Infinity, -Infinity];
    data.adapters.forEach((_, i) => {
      if (!shown(i)) return;
      // Both states share one frame: switching calibration moves adapters, not the view.
      for (const calibrated of [true, false]) {
        const row = scores(i, calibrated);
        box[0] = Math.min(box[0], row[state.x]); box[1] = Math.max(box[1], row[state.x]);
        box[2] = Math.min(box[2], row[state.y]); box[3] = Math.max(box[3], row[state.y]);
      }
    });
    const pad = 34;
    const scale = Math.min(
      (width - 2 * pad) / Math.max(box[1] - box[0], 1e-9), (height - 2 * pad) / Math.max(box[3] - box[2], 1e-9));
    return (row) => [
      width / 2 + scale * (row[state.x] - (box[0] + box[1]) / 2),
      height / 2 - scale * (row[state.y] - (box[2] + box[3]) / 2),
    ];
  }

  const move = (node, [x, y]) => {
    const scale = width < 520 ? " scale(0.72)" : "";
    node.style.transform = `translate(${x.toFixed(1)}px,${y.toFixed(1)}px)${scale}`;
  };
  const path = (points) => "M" + points.map((p) => p.map((v) => v.toFixed(1)).join(",")).join("L") + "Z";

  function draw() {
    width = svg.clientWidth; height = svg.clientHeight;
    svg.setAttribute("viewBox", `0 0 ${width} ${height}`);
    const place = frame();
    places = data.adapters.map((_, i) => (shown(i) ? place(scores(i, state.calibrated)) : null));
    marks.forEach((mark, i) => {
      mark.toggleAttribute("hidden", !places[i]);
      if (places[i]) move(mark, places[i]);
    });
    hulls.forEach((node, genre) => {
      const theirs = places.filter((p, i) => {
        const artist = data.artists[data.adapters[i][1]];
        return p && artist.genre === genre && !artist.unlabelled;
      });
      node.setAttribute("d", theirs.length > 2 ? path(convexHull(theirs)) : "");
    });
    drawAxes(place);
    drawStars(place);
    highlight();
  }

  function drawAxes(place) {
    layers.axes.replaceChildren();
    const [x, y] = place(new Array(99).fill(0));
    element("line", { x1: x, x2: x, y1: 0, y2: height }, layers.axes);
    element("line", { x1: 0, x2: width, y1: y, y2: y }, layers.axes);
    const share = (k) => (space().explained ? ` · ${(100 * space().explained[k]).toFixed(1)} % of the variance` : "");
    const across = element("text", { x: width - 10, y: height - 10, "text-anchor": "end" }, layers.axes);
    across.textContent = `component ${state.x + 1}${share(state.x)} →`;
    const up = element("text", { transform: `translate(18,10) rotate(-90)`, "text-anchor": "end" }, layers.axes);
    up.textContent = `component ${state.y + 1}${share(state.y)} →`;
  }

  let centroids = [];
  function drawStars(place) {
    centroids = data.artists.map(({ unlabelled }, artist) => {
      if (unlabelled) return null;
      const theirs = data.adapters.flatMap((row, i) =>
        row[1] === artist && data.kinds[row[2]].fit && space().scores[i] ? [place(space().scores[i])] : []);
      return theirs.length ? [0, 1].map((axis) => theirs.reduce((sum, p) => sum + p[axis], 0) / theirs.length) : null;
    });
    stars.forEach((star, i) => {
      star.toggleAttribute("hidden", !centroids[i]);
      if (centroids[i]) move(star, centroids[i]);
    });
  }

  // Labels take the first free side of their star; those that find none wait for a hover.
  function drawLabels(wanted) {
    layers.labels.replaceChildren();
    const taken = centroids.filter(Boolean).map(([x, y]) => [x - 7, y - 7, x + 7, y + 7]);
    const free = (box) => box[0] > 0 && box[2] < width && box[1] > 0 && box[3] < height &&
      !taken.some((other) => box[0] < other[2] && box[2] > other[0] && box[1] < other[3] && box[3] > other[1]);
    for (const artist of wanted) {
      if (!centroids[artist]) continue;
      const [x, y] = centroids[artist];
      const name = data.artists[artist].name;
      const label = element("text", { class: "label" }, layers.labels);
      label.textContent = name;
      const long = label.getComputedTextLength();
      const sides = [[x - long / 2, y - 12], [x - long / 2, y + 21], [x + 12, y + 4], [x - long - 12, y + 4]];
      const box = ([left, base]) => [left, base - 11, left + long, base + 3];
      const side = sides.find((candidate) => free(box(candidate))) || (wanted.length === 1 ? sides[0] : null);
      if (!side) { label.remove(); continue; }
      taken.push(box(side));
      const left = Math.min(Math.max(side[0], 2), width - long - 2);
      label.setAttribute("x", left); label.setAttribute("y", side[1]);
    }
  }

  function highlight() {
    const artist = state.hover !== null ? data.adapters[state.hover][1] : state.solo;
    svg.classList.toggle("dimmed", artist !== null);
    marks.forEach((mark, i) => {
      mark.classList.toggle("lit", data.adapters[i][1] === artist);
      mark.classList.toggle("held", i === state.hover);
    });
    stars.forEach((star, i) => star.classList.toggle("lit", i === artist));
    hulls.forEach((node, i) => node.classList.toggle("lit", artist !== null && data.artists[artist].genre === i));
    drawLabels(artist === null ? data.artists.map((_, i) => i) : [artist]);
    for (const button of document.querySelectorAll("[data-artist]"))
      button.setAttribute("aria-pressed", String(Number(button.dataset.artist) === state.solo));
  }

  function nearest(event) {
    const bounds = svg.getBoundingClientRect();
    const at = [event.clientX - bounds.left, event.clientY - bounds.top];
    let best = null, reach = event.pointerType === "mouse" ? 16 : 28;
    places.forEach((p, i) => {
      if (!p) return;
      const away = Math.hypot(p[0] - at[0], p[1] - at[1]);
      if (away < reach) { best = i; reach = away; }
    });
    return best;
  }

  function showTip(i) {
    tip.hidden = i === null;
    if (i === null) return;
    const [id, artist, kind] = data.adapters[i];
    const text = (name, value) => {
      const made = document.createElement(name);
      made.textContent = value;
      return made;
    };
    const works = document.createElement("div");
    works.className = "works";
    for (const shown of [...document.querySelectorAll(`#artist-${artist} img`)].slice(0, 3)) {
      const image = new Image();
      image.src = shown.src; image.alt = "";
      works.append(image);
    }
    tip.replaceChildren(works, text("strong", data.artists[artist].name),
      text("span", `${data.genres[data.artists[artist].genre]} · ${data.kinds[kind].name}`), text("code", id));
    const [x, y] = places[i];
    const [wide, tall] = [tip.offsetWidth, tip.offsetHeight];
    // Beside the mark, or on a narrow screen above or below it: never on it.
    const left = width < 520 ? x - wide / 2 : x + 16 + wide > width ? x - 16 - wide : x + 16;
    const top = width >= 520 ? y - tall / 2 : y + 16 + tall > height ? y - 16 - tall : y + 16;
    const within = (value, most) => `${Math.min(Math.max(value, 4), Math.max(most - 4, 4))}px`;
    tip.style.left = within(left, width - wide);
    tip.style.top = within(top, height - tall);
  }

  function hover(i) {
    if (i === state.hover) return;
    state.hover = i;
    highlight();
    showTip(i);
  }
  svg.addEventListener("pointermove", (event) => hover(nearest(event)));
  svg.addEventListener("pointerdown", (event) => hover(nearest(event)));
  svg.addEventListener("pointerleave", (event) => { if (event.pointerType === "mouse") hover(null); });

  data.spaces.forEach((one, i) => field("space").add(new Option(one.name, i, false, i === state.space)));
  field("space").addEventListener("change", (event) => {
    state.space = Number(event.target.value); fillAxes(); hover(null); draw();
  });
  function fillAxes() {
    const n = space().n_components;
    for (const axis of ["x", "y"]) {
      if (state[axis] >= n) state[axis] = axis === "x" ? 0 : Math.min(1, n - 1);
      field(axis).replaceChildren(...Array.from({ length: n }, (_, k) => new Option(k + 1, k, false, k === state[axis])));
    }
    field("calibrated").disabled = !space().before;
  }
  for (const axis of ["x", "y"])
    field(axis).addEventListener("change", (event) => { state[axis] = Number(event.target.value); hover(null); draw(); });
  field("calibrated").addEventListener("change", (event) => { state.calibrated = event.target.checked; hover(null); draw(); });
  for (const box of document.querySelectorAll("[data-kind]"))
    box.addEventListener("change", () => {
      const kind = Number(box.dataset.kind);
      if (box.checked) state.kinds.add(kind); else state.kinds.delete(kind);
      hover(null); draw();
    });
  for (const button of document.querySelectorAll("[data-artist]")) {
    const artist = Number(button.dataset.artist);
    button.addEventListener("click", () => { state.solo = state.solo === artist ? null : artist; highlight(); });
  }
  fillAxes();
  new ResizeObserver(draw).observe(svg);
  // What moves later is a change of the picture; how it first came to be is not.
  setTimeout(() => svg.classList.add("ready"), 300);
})();
