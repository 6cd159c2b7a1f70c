"use strict";
// Names come from strangers: they become text here (textContent), never markup.

const at = (id) => document.getElementById(id);
const SVG = "http://www.w3.org/2000/svg";
const STAR = "M0,-13L3.4,-4.4L12.4,-4L5.3,1.7L7.7,10.5L0,5.5L-7.7,10.5L-5.3,1.7L-12.4,-4L-3.4,-4.4Z";
const N_ARTISTS = 6, MARGIN = 34, CHARACTER = 7, OFFSETS = [-9, 26, -30, 45];
const number = new Intl.NumberFormat("en");
const score = new Intl.NumberFormat("en", { minimumFractionDigits: 3, maximumFractionDigits: 3, signDisplay: "negative" });
// What a PEFT or diffusers folder's weights are called, as the server looks for them. Downloads may get a number.
const WEIGHTS = ["adapter_model.safetensors", "adapter_model.bin", "pytorch_lora_weights.safetensors", "pytorch_lora_weights.bin"];
const CONFIG = /^adapter_config.*\.json$/;
window.lorastyle = { ready: false, shown: null, compared: null };
let token = sessionStorage.getItem("token") || "", about = null, maps = {}, pictures = [], current = null, first = null;

function made(name, properties = {}, ...children) {
  const element = document.createElement(name);
  Object.assign(element, properties);
  element.append(...children);
  return element;
}

function drawn(name, attributes = {}, text) {
  const element = document.createElementNS(SVG, name);
  for (const [key, value] of Object.entries(attributes)) element.setAttribute(key, value);
  if (text !== undefined) element.textContent = text;
  return element;
}

const headers = () => (token ? { Authorization: `Bearer ${token}` } : {});

async function read(path) {
  const response = await fetch(path, { headers: headers() });
  if (response.status === 401) askForToken();
  if (!response.ok) throw new Error(`${path}: ${response.status}`);
  return response;
}

function askForToken() {
  if (token) fail("This is not the server's token.");
  at("access").hidden = false;
  at("token").focus();
}

async function start() {
  at("problem").textContent = "";
  try {
    about = await (await read("about")).json();
  } catch { return; } finally { window.lorastyle.ready = true; }
  at("access").hidden = true;
  at("run").textContent = about.run;
  const artists = about.n_artists ? ` by ${number.format(about.n_artists)} artists` : "";
  at("lead").textContent = `It is compared with ${number.format(about.n_adapters)} adapters${artists}, by its weights alone. The file is deleted when the answer is there.`;
  at("limits").textContent = `safetensors, .pt or .bin for ${about.base}; a PEFT folder, or its two files; ${megabytes(about.max_upload_bytes)} at most`;
}

const megabytes = (n) => (n < 1e6 ? `${Math.ceil(n / 1e3)} kB` : `${(n / 1e6).toFixed(n < 1e8 ? 1 : 0)} MB`);

// An adapter is a file of weights, and in a PEFT folder the config beside them.
function adapterOf(files, folder = "") {
  const config = files.find((one) => CONFIG.test(one.name)), rest = files.filter((one) => one !== config);
  const known = WEIGHTS.map((name) => rest.find((one) => one.name === name)).find(Boolean);
  const file = !folder && rest.length === 1 ? rest[0] : known;
  if (file) return { file, config, name: folder || file.name };
  if (!files.length && !folder) return null; // a text was dropped, or nothing
  if (folder) fail(`${folder} is a folder without ${WEIGHTS[0]} or ${WEIGHTS[2]}; give the file itself.`);
  else if (config && !rest.length) fail(`${config.name} holds no weights; give ${WEIGHTS[0]} together with it.`);
  else fail(`These are ${files.length} files; give one LoRA at a time, with its adapter_config.json if it has one.`);
  return null;
}

async function dropped(transfer) {
  const entry = transfer.items.length === 1 ? transfer.items[0].webkitGetAsEntry?.() : null;
  if (!entry?.isDirectory) return adapterOf([...transfer.files]);
  const reader = entry.createReader(), files = [];
  for (;;) {
    const some = await new Promise((resolve, reject) => { reader.readEntries(resolve, reject); });
    if (!some.length) return adapterOf(files, entry.name);
    const wanted = some.filter((one) => one.isFile && (WEIGHTS.includes(one.name) || CONFIG.test(one.name)));
    files.push(...await Promise.all(wanted.map((one) => new Promise((resolve, reject) => { one.file(resolve, reject); }))));
  }
}

function search(adapter) {
  first = adapter;
  window.lorastyle.shown = null;
  for (const id of ["result", "comparison", "other-drop"]) at(id).hidden = true;
  send("search?details=true", { file: adapter }, show, (kind) => {
    if (kind !== "LayoutMismatchError") return;
    at("problem").append(" It has no place here, but can be compared with another file.");
    offerComparison();
  });
}

function compare(adapter) {
  window.lorastyle.compared = null;
  at("comparison").hidden = true;
  send("compare", { first, second: adapter }, showComparison);
}

function offerComparison() {
  at("drop").classList.add("small");
  at("other-drop").hidden = false;
}

function send(path, adapters, answered, refused = () => {}) {
  if (current) current.abort();
  at("problem").textContent = "";
  const form = new FormData(), request = new XMLHttpRequest(), progress = at("progress");
  const all = Object.values(adapters), size = all.reduce((sum, one) => sum + one.file.size + (one.config?.size ?? 0), 0);
  const names = new Intl.ListFormat("en").format(all.map((one) => one.name));
  if (about && size > about.max_upload_bytes) {
    done(current);
    fail(`${names} ${all.length > 1 ? "have" : "has"} ${megabytes(size)}, more than the ${megabytes(about.max_upload_bytes)} that this server takes.`);
    return;
  }
  for (const [part, one] of Object.entries(adapters)) {
    form.append(part, one.file, one.name);
    if (one.config) form.append(part === "file" ? "config" : `${part}_config`, one.config);
  }
  current = request;
  request.open("POST", path);
  for (const [key, value] of Object.entries(headers())) request.setRequestHeader(key, value);
  request.responseType = "json";
  request.upload.onprogress = (event) => {
    if (event.lengthComputable) progress.value = event.loaded / event.total;
    at("status").textContent = `Sending ${names}`;
  };
  request.upload.onload = () => {
    progress.removeAttribute("value");
    at("status").textContent = all.length > 1 ? `Comparing ${names}` : `Reading ${names}, and looking for its like`;
  };
  request.onload = () => {
    done(request);
    const error = request.response?.error;
    if (request.status === 200) answered(request.response);
    else if (request.status === 401) askForToken();
    else {
      fail(error?.message ? sentence(error.message) : `The server answered ${request.status}.`);
      refused(error?.kind);
    }
  };
  request.onerror = () => {
    done(request);
    fail("The server did not answer, or hung up: the file may be too large.");
  };
  at("working").hidden = false;
  progress.value = 0;
  request.send(form);
}

function done(request) {
  if (current === request) current = null;
  at("working").hidden = true;
  at("status").textContent = "";
}

const fail = (message) => { at("problem").textContent = message; };
const sentence = (text) => text + (/[.!?]$/.test(text) ? "" : ".");

async function show(found) {
  offerComparison();
  at("name").textContent = found.file;
  at("verdict").textContent = verdict(found);
  at("remarks").replaceChildren(...remarks(found));
  at("facts").replaceChildren(...facts(found.inspect));
  at("json").textContent = JSON.stringify(found, null, 2);
  at("result").hidden = false;
  at("result").focus();
  const space = found.place.space;
  try {
    maps[space] ??= await (await read(`map?space=${encodeURIComponent(space)}`)).json();
  } catch { /* the answer stands without its map */ }
  const map = maps[space], colour = Object.fromEntries((map?.artists ?? []).map((one) => [one.name, one]));
  at("artists").replaceChildren(...artistBars(found, colour));
  showAdapters(found, colour);
  if (map) drawMap(map, found);
  window.lorastyle.shown = found.file;
}

function showComparison(found) {
  at("pair").replaceChildren(found.first, made("span", {}, " and "), found.second);
  at("pair-verdict").textContent = capital(about?.verdicts[found.verdict] ?? found.verdict);
  at("evidence").replaceChildren(...found.evidence.map((one) => made("p", {}, capital(sentence(one)))));
  showScores(found.scores);
  at("pair-json").textContent = JSON.stringify(found, null, 2);
  at("comparison").hidden = false;
  at("comparison").focus();
  window.lorastyle.compared = found.verdict;
}

function showScores(found) {
  const known = found.cosine !== undefined;
  for (const id of ["scores", "covered"]) at(id).hidden = !known;
  if (!known) return;
  const { shared_modules: shared, only_first: ours, only_second: theirs, energy_share: shares } = found.coverage;
  const only = [[ours, "first"], [theirs, "second"]].filter(([n]) => n).map(([n, which]) => ` ${n} ${n === 1 ? "is" : "are"} in the ${which} alone.`);
  at("whole").replaceChildren(...rowsOf([
    ["Cosine", score.format(found.cosine)], ["Of what their row spaces allow", score.format(found.aligned_cosine)],
    ["Cosine of lora_A", found.factor_cosine === null ? "" : score.format(found.factor_cosine)],
    ["Norm, second to first", found.norm_ratio === null ? "" : `${found.norm_ratio.toPrecision(3)}\u00a0×`],
  ]));
  at("parts").replaceChildren(...rowsOf(Object.entries(found.parts).map(([name, cosine]) => [name.replaceAll("_", "-"), score.format(cosine)])));
  at("covered").textContent = `Compared on the ${shared} modules that both change: ${percent(shares[0])} of the first, ${percent(shares[1])} of the second.${only.join("")}`;
}

const rowsOf = (rows) => rows.filter(([, value]) => value).map(([name, value]) => made("div", {}, made("dt", {}, name), made("dd", {}, value)));

function verdict(found) {
  const again = found.duplicates[0];
  if (again) return `${capital(about?.verdicts[again.verdict] ?? again.verdict)}${again.verdict === "same_run" ? ":" : " as"} ${again.adapter_id}`;
  if (found.is_far) return "Far from every adapter here";
  const first = found.artists[0];
  if (!first) return `Nearest to ${found.neighbours[0].adapter_id}`;
  return first.score < 0.5 ? `Between ${listed(found.artists.slice(0, 3))}` : `In the style of ${plain(first.artist)}`;
}

const listed = (artists) => new Intl.ListFormat("en").format(artists.map((one) => plain(one.artist)));
const capital = (text) => text.charAt(0).toUpperCase() + text.slice(1);
const percent = (share) => `${Math.round(100 * share)}\u00a0%`;

function remarks(found) {
  const lines = found.duplicates.map((one, index) => {
    const who = index ? `${one.adapter_id}: ${about?.verdicts[one.verdict] ?? one.verdict}. ` : "";
    return made("p", { className: "again" }, who + one.evidence.map(sentence).map(capital).join(" "));
  });
  const near = `${found.nearest_distance.toPrecision(3)} from its nearest neighbour; adapters here usually have one at ${found.usual_distance.toPrecision(3)}.`;
  lines.push(made("p", {}, (found.is_far ? "Its style is like none of these: it lies " : "It lies ") + near));
  if (found.coverage < 0.995) lines.push(made("p", {}, `Compared on ${percent(found.coverage)} of the updates: the rest is in one alone.`));
  if (found.method === "sketch") lines.push(made("p", {}, "Placed by sketches, whose cosines are off by about 0.006."));
  return lines.concat(found.notes.map((note) => made("p", {}, note)));
}

function facts(file) {
  const counted = (counts) => Object.entries(counts ?? {}).map(([value, n], _, all) => (all.length === 1 ? value : `${value} (${n}×)`)).join(", ");
  // It has a place here: of a base model without a name it is the run's.
  const family = (file.family === "other" ? about?.base : about?.families[file.family]) ?? file.family;
  const rows = [
    ["Format", file.format], ["Base model", family], ["Rank", counted(file.ranks)],
    ["Alpha", alpha(file, counted)],
    ["Changes", Object.entries(file.parts).map(([name, part]) => `${name.replaceAll("_", "-")} ${part.n_modules}`).join(", ")],
    ["Numbers", `${number.format(file.n_parameters)}, ${counted(file.dtypes)}`], ["Size", megabytes(file.bytes)],
  ];
  if (file.trainer) rows.push(["Trainer", file.trainer]);
  return rowsOf(rows);
}

function alpha(file, counted) {
  if (file.alpha_source === "absent") return file.format === "peft" ? "the rank, as no adapter_config.json says" : "the rank";
  return counted(file.alpha) + (file.alpha_source === "config" ? ", by adapter_config.json" : "");
}

function artistBars(found, colour) {
  if (!found.artists.length) return [made("li", {}, "Nobody has said whose style the adapters here have.")];
  return found.artists.slice(0, N_ARTISTS).map((one) => {
    const fill = made("i", { className: colour[one.artist] ? "swatch" : "" });
    fill.style.width = `${100 * one.score}%`;
    tint(fill, colour[one.artist]);
    return made("li", {}, made("span", { className: "who" }, plain(one.artist)), made("span", { className: "share" }, percent(one.score)),
      made("span", { className: "bar" }, fill), made("small", {}, `${one.n_neighbours} of ${found.neighbours.length} neighbours, the nearest at ${one.nearest.toPrecision(3)}`));
  });
}

const plain = (name) => name.replaceAll("_", " ");

function tint(element, colour) {
  if (!colour) return;
  element.style.setProperty("--light", colour.light);
  element.style.setProperty("--dark", colour.dark);
}

function showAdapters(found) {
  pictures.forEach(URL.revokeObjectURL);
  pictures = [];
  const withPictures = Boolean(about?.n_pictures);
  at("adapters").className = withPictures ? "" : "plain";
  at("distance-caption").textContent = `By distance on ${found.n_components} components of ${maps[found.place.space]?.name ?? found.place.space}, among ${number.format(found.n_gallery)}: ${found.why}.`;
  at("adapters").replaceChildren(...found.neighbours.map((one) => {
    const far = made("span", { className: "far" }, one.distance.toFixed(4));
    const who = made("span", { className: one.artist ? "who" : "who nobody" }, plain(one.artist) || "unlabelled");
    const name = made("code", {}, one.adapter_id);
    if (!withPictures) return made("li", {}, far, name, who);
    const picture = made("img", { alt: `A work that ${one.adapter_id} was trained on`, width: 128, height: 128, hidden: true });
    const blank = made("span", { className: "blank" });
    if (one.role !== "ingested") fetchPicture(one.row, picture, blank);
    return made("li", {}, picture, blank, who, " ", far, name);
  }));
}

async function fetchPicture(row, picture, blank) {
  try {
    const response = await fetch(`adapters/${row}/image`, { headers: headers() });
    if (!response.ok) return;
    picture.src = URL.createObjectURL(await response.blob());
    pictures.push(picture.src);
    picture.hidden = false;
    blank.hidden = true;
  } catch { /* the blank stays */ }
}

function drawMap(map, found) {
  // In the page's own pixels: writing is as large on a phone as on a desk.
  const WIDTH = Math.max(280, at("stage").clientWidth), HEIGHT = Math.max(320, Math.round(WIDTH * 0.58));
  const all = map.points.map(([x, y]) => [x, y]).concat([[found.place.x, found.place.y]]);
  const range = (axis) => {
    const values = all.map((one) => one[axis]);
    const [low, high] = [values.reduce((a, b) => Math.min(a, b)), values.reduce((a, b) => Math.max(a, b))];
    return [(low + high) / 2, Math.max(high - low, 1e-9)];
  };
  const [[cx, dx], [cy, dy]] = [range(0), range(1)];
  // One scale for both: distances are what the map is about.
  const scale = Math.min((WIDTH - 2 * MARGIN) / dx, (HEIGHT - 2 * MARGIN) / dy);
  const place = (x, y) => [WIDTH / 2 + (x - cx) * scale, HEIGHT / 2 - (y - cy) * scale];
  const svg = drawn("svg", { viewBox: `0 0 ${WIDTH} ${HEIGHT}`, role: "img", "aria-label": `Map of ${map.points.length} adapters on two components. ${found.file} is marked with a star, near ${plain(found.neighbours[0].artist) || found.neighbours[0].adapter_id}.` });
  const [zeroX, zeroY] = place(0, 0);
  svg.append(drawn("line", { class: "axis", x1: 0, x2: WIDTH, y1: zeroY, y2: zeroY }), drawn("line", { class: "axis", y1: 0, y2: HEIGHT, x1: zeroX, x2: zeroX }));
  const near = new Set(found.neighbours.slice(0, 5).map((one) => one.adapter_id));
  const radius = map.points.length > 1000 ? 2.6 : map.points.length > 200 ? 3.6 : 5;
  for (const [x, y, artist, name] of map.points) {
    const [left, top] = place(x, y), known = map.artists[artist];
    const dot = drawn("circle", { cx: left.toFixed(1), cy: top.toFixed(1), r: near.has(name) ? radius + 1.4 : radius, class: `dot${known ? "" : " nobody"}${near.has(name) ? " near" : ""}` });
    tint(dot, known);
    dot.append(drawn("title", {}, known ? `${name}, ${plain(known.name)}` : name));
    svg.append(dot);
  }
  nameArtists(svg, map, found, place, WIDTH);
  const [left, top] = place(found.place.x, found.place.y);
  svg.append(drawn("path", { class: "query", d: STAR, transform: `translate(${left.toFixed(1)} ${top.toFixed(1)})` }));
  const right = left > WIDTH * 0.75;
  svg.append(drawn("text", { class: "you", x: left + (right ? -17 : 17), y: top + 5, "text-anchor": right ? "end" : "start" }, "this file"));
  at("stage").replaceChildren(svg);
  const share = map.explained.map((one) => `${(100 * one).toFixed(1)}\u00a0%`).join(" and ");
  const shown = map.points.length < map.n_adapters ? `${number.format(map.points.length)} of ${number.format(map.n_adapters)} adapters` : `${number.format(map.n_adapters)} adapters`;
  at("map-caption").textContent = `${shown} on the first two components of ${map.name}, which hold ${share} of the variance: neighbours by all ${found.n_components} components may lie apart here. Ringed: the five nearest.`;
}

function nameArtists(svg, map, found, place, width) {
  const sums = map.artists.map(() => [0, 0, 0]);
  for (const [x, y, artist] of map.points) if (sums[artist]) { sums[artist][0] += x; sums[artist][1] += y; sums[artist][2] += 1; }
  const rank = new Map(found.artists.map((one, position) => [one.artist, position]));
  const order = map.artists.map((one, index) => index).sort((a, b) => (rank.get(map.artists[a].name) ?? 1e6 + a) - (rank.get(map.artists[b].name) ?? 1e6 + b));
  const taken = [[...place(found.place.x, found.place.y), 60]];
  const most = width < 600 ? 10 : 16;
  let named = 0;
  for (const index of order) {
    if (!sums[index][2] || named >= most) continue;
    const [left, top] = place(sums[index][0] / sums[index][2], sums[index][1] / sums[index][2]);
    // Where names would lie on one another, the farther artist's is moved, or left out.
    const name = plain(map.artists[index].name).slice(0, 32), half = (name.length * CHARACTER) / 2;
    const x = Math.min(Math.max(left, half + 4), width - half - 4);
    const free = (y) => taken.every(([u, v, other]) => Math.abs(u - x) >= half + other || Math.abs(v - y) >= 17);
    const y = OFFSETS.map((offset) => top + offset).find(free);
    if (y === undefined) continue;
    taken.push([x, y, half]);
    named += 1;
    svg.append(drawn("text", { class: "artist", x: x.toFixed(1), y: y.toFixed(1), "text-anchor": "middle" }, name));
  }
}

function takesFiles(input, area, take) {
  const given = (adapter) => { if (adapter) take(adapter); };
  at(input).addEventListener("change", (event) => {
    const files = [...event.target.files];
    event.target.value = "";
    if (files.length) given(adapterOf(files));
  });
  for (const kind of ["dragenter", "dragover"]) at(area).addEventListener(kind, () => at(area).classList.add("over"));
  for (const kind of ["dragleave", "drop"]) at(area).addEventListener(kind, () => at(area).classList.remove("over"));
  at(area).addEventListener("drop", async (event) => {
    try { given(await dropped(event.dataTransfer)); } catch { fail("The folder cannot be read; choose its files."); }
  });
}

takesFiles("file", "drop", search);
takesFiles("other", "other-drop", compare);
// Beside the areas nothing is taken; the browser would leave the page for the file.
for (const kind of ["dragover", "drop"]) addEventListener(kind, (event) => {
  event.preventDefault();
  if (!event.target.closest?.(".drop")) event.dataTransfer.dropEffect = "none";
});
at("access").addEventListener("submit", (event) => { event.preventDefault(); token = at("token").value.trim(); sessionStorage.setItem("token", token); start(); });
at("theme").addEventListener("click", () => {
  const root = document.documentElement;
  const dark = root.dataset.theme ? root.dataset.theme === "dark" : matchMedia("(prefers-color-scheme: dark)").matches;
  root.dataset.theme = dark ? "light" : "dark";
});
start();
