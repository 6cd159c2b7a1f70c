"use strict";
// The page's lists: legend, search results, one adapter with its neighbours, an area. Names come
// from strangers, so that all of them are set as text.
lorastyle.makePanels = (data, actions) => {
  const MOST_LISTED = 200, MOST_FOUND = 30;
  const byId = (id) => document.getElementById(id);
  const roles = data.columns.find((column) => column.key === "role");
  const number = (n) => n.toLocaleString("en");
  const adapters = (n) => `${number(n)} adapter${n === 1 ? "" : "s"}`;

  function element(name, attributes = {}, ...children) {
    const made = document.createElement(name);
    for (const [key, value] of Object.entries(attributes)) {
      if (key === "onclick") made.addEventListener("click", value);
      else if (value !== false && value !== null) made.setAttribute(key, value === true ? "" : value);
    }
    made.append(...children.filter((child) => child !== null));
    return made;
  }

  // The mark of a role as the plot has it, in 2D or 3D.
  function symbol(role, dims, colour) {
    const svg = document.createElementNS("http://www.w3.org/2000/svg", "svg");
    svg.setAttribute("viewBox", "-8 -8 16 16");
    svg.setAttribute("aria-hidden", "true");
    const path = document.createElementNS("http://www.w3.org/2000/svg", "path");
    const { symbol: names, outline } = roles.values[role];
    path.setAttribute("d", outline[dims - 2]);
    svg.append(path);
    svg.classList.toggle("open", names[dims - 2].endsWith("-open"));
    if (colour) svg.style.color = colour;
    return svg;
  }

  const columnOf = (key) => data.columns.find((column) => column.key === key);
  const valueOf = (key, row) => columnOf(key).values[data.adapters[key][row]];
  const dot = (colour) => element("i", { class: "dot", style: `background:${colour}` });

  function picture(index) {
    const src = data.pictures.inside ? `data:image/jpeg;base64,${data.pictures.inside[index]}` : `pictures/${String(index).padStart(6, "0")}.jpg`;
    return element("img", { src, alt: "", loading: "lazy", decoding: "async" });
  }

  // One row of the legend: a switch, and a button that leaves it alone on the plot.
  function toggle(view, key, i, count, mark) {
    const value = columnOf(key).values[i], shown = !view.state.hidden[key].has(i);
    return element("li", {},
      element("button", { type: "button", class: "toggle", "data-key": `toggle/${key}/${i}`, "aria-pressed": String(shown), "data-value": value.value,
        onclick: () => actions.toggle(key, i) }, mark, element("span", {}, value.name), element("small", {}, number(count))),
      element("button", { type: "button", class: "only", "data-key": `only/${key}/${i}`, "aria-label": `Show only ${value.name}`, onclick: () => actions.only(key, i) }, "only"));
  }

  function legend(view, counts) {
    const { key, name, values } = view.column;
    const colour = (i) => (key === "role" ? values[i].colour[view.theme.number] : null);
    byId("kinds").replaceChildren(...roles.values.map((_, i) => toggle(view, "role", i, counts.role[i], symbol(i, view.state.dims, colour(i)))));
    byId("legend-box").hidden = key === "role";
    if (key === "role") return;
    byId("legend-title").textContent = name;
    const listed = values.map((_, i) => i).slice(0, MOST_LISTED);
    byId("legend").replaceChildren(...listed.map((i) =>
      toggle(view, key, i, counts[key][i], dot(values[i].colour[view.theme.number]))));
    byId("legend-more").textContent = values.length > MOST_LISTED ? `and ${number(values.length - MOST_LISTED)} more: search for one` : "";
  }

  function line(view, row, distance = null) {
    const artist = valueOf("artist", row), column = view.column;
    return element("li", {}, element("button", { type: "button", class: "adapter", "data-adapter": data.adapters.id[row], onclick: () => actions.pick(row) },
      symbol(data.adapters.role[row], view.state.dims, column.values[data.adapters[column.key][row]].colour[view.theme.number]),
      element("span", {}, element("b", {}, data.adapters.id[row]), element("small", {}, `${artist.name} · ${valueOf("role", row).name}`)),
      distance === null ? null : element("data", { value: distance }, distance.toPrecision(3))));
  }

  function search(view, found) {
    const box = byId("found");
    const asked = view.state.query !== "";
    box.hidden = !asked;
    const more = found.n_hidden ? `; ${number(found.n_hidden)} more ${found.n_hidden === 1 ? "is" : "are"} hidden or without a place here` : "";
    byId("found-count").textContent = asked ? `${adapters(found.rows.length)} match${found.rows.length === 1 ? "es" : ""}${found.rows.length > MOST_FOUND ? `, the first ${MOST_FOUND} below` : ""}${more}` : "";
    const names = found.values.slice(0, 8).map(([key, i]) => element("li", {}, element("button",
      { type: "button", class: "adapter", "data-key": `found/${key}/${i}`, "data-only": columnOf(key).values[i].value, onclick: () => actions.only(key, i) },
      dot(columnOf(key).values[i].colour[view.theme.number]), element("span", {}, element("b", {}, columnOf(key).values[i].name),
        element("small", {}, `${columnOf(key).name.toLowerCase()}: show only these`)))));
    box.replaceChildren(...names, ...found.rows.slice(0, MOST_FOUND).map((row) => line(view, row)));
  }

  function facts(row) {
    const shown = data.columns.map((column) => [column.name, valueOf(column.key, row).name]);
    return element("dl", {}, ...shown.map(([name, value]) => element("div", {}, element("dt", {}, name), element("dd", {}, value))));
  }

  function works(row) {
    const pictures = data.adapters.pictures[row];
    if (!pictures.length) return element("p", { class: "hint" }, "No training images are known.");
    const all = element("div", { class: "works" }, ...pictures.map(picture));
    const count = data.adapters.n_images[row];
    return element("section", {}, element("h3", {}, `Trained on ${number(count)} image${count === 1 ? "" : "s"}`),
      all, count > pictures.length ? element("p", { class: "hint" }, `${pictures.length} of them are shown.`) : null);
  }

  function details(view) {
    const box = byId("picked");
    byId("welcome").hidden = view.pick >= 0 || view.area !== null;
    box.hidden = view.pick < 0;
    if (view.pick < 0) return box.replaceChildren();
    const row = view.pick, { n_compared } = view.space;
    const placed = !Number.isNaN(view.space.scores[row * view.space.k]);
    const close = element("button", { type: "button", class: "close", "aria-label": "Close", onclick: () => actions.pick(-1) }, "×");
    const among = `Euclidean distance over ${n_compared} component${n_compared === 1 ? "" : "s"}, among the ${number(view.rows.length)} adapters shown`;
    box.replaceChildren(
      element("header", {}, element("div", {}, element("h2", {}, valueOf("artist", row).name), element("code", {}, data.adapters.id[row])), close),
      works(row), facts(row),
      element("section", {}, element("h3", {}, "Nearest adapters"), element("p", { class: "hint" }, placed ? among : "It has no place in this space."),
        element("ol", { id: "neighbours" }, ...view.neighbours.map(({ row: near, distance }) => line(view, near, distance)))));
  }

  function area(view) {
    const box = byId("area");
    box.hidden = view.area === null;
    if (view.area === null) return box.replaceChildren();
    const names = view.area.map((row) => data.adapters.id[row]).join("\n");
    const save = () => {
      const link = element("a", { href: URL.createObjectURL(new Blob([`${names}\n`], { type: "text/plain" })), download: "adapters.txt" });
      link.click();
      setTimeout(() => URL.revokeObjectURL(link.href), 1000);
    };
    const more = view.area.length - MOST_LISTED;
    box.replaceChildren(
      element("header", {}, element("h2", {}, `${adapters(view.area.length)} in the area`),
        element("button", { type: "button", class: "close", "aria-label": "Close", onclick: () => actions.area(null) }, "×")),
      element("p", {}, element("button", { type: "button", class: "plain", onclick: save }, "Save their names")),
      element("ul", { id: "area-list" }, ...view.area.slice(0, MOST_LISTED).map((row) => line(view, row))),
      more > 0 ? element("p", { class: "hint" }, `and ${number(more)} more: in the saved list`) : "");
  }

  // What lies under the pointer.
  function tip(row, centre, x, y, width, height) {
    const box = byId("tip");
    box.hidden = row < 0 && !centre;
    if (box.hidden) return;
    if (row >= 0) box.replaceChildren(...ofAdapter(row));
    else box.replaceChildren(element("b", {}, centre.value.name), element("span", {}, `centre of ${adapters(centre.list.length)}`));
    const left = x + 16 + box.offsetWidth > width ? x - 16 - box.offsetWidth : x + 16;
    const top = Math.min(Math.max(8, y - box.offsetHeight / 2), height - box.offsetHeight - 8);
    box.style.transform = `translate(${Math.max(4, left)}px,${Math.max(4, top)}px)`;
  }

  function ofAdapter(row) {
    const pictures = data.adapters.pictures[row].slice(0, 3);
    const unknown = valueOf("artist", row).unlabelled;
    return [
      ...(pictures.length ? [element("div", { class: "works" }, ...pictures.map(picture))] : []),
      element("b", {}, valueOf("artist", row).name), element("code", {}, data.adapters.id[row]),
      element("span", {}, [...(unknown ? [] : [valueOf("genre", row).name]), valueOf("role", row).name].join(" · ")),
    ];
  }

  return { legend, search, details, area, tip, number, adapters };
};
