"use strict";
// Names of centres and of the chosen adapter, each on a free side of its mark. Which find room is found anew whenever the plot
// is moved, turned or zoomed: the others wait for it. Names are set as text, since strangers gave them.
lorastyle.makeNames = (plot, layer) => {
  const PICK = "pick", MOST_TRIED = 200, HEIGHT = 15, HALF_MARK = 7;
  const pen = document.createElement("canvas").getContext("2d");
  const elements = new Map(), sides = new Map();
  let centres = [];

  const shorter = (text) => (text.length > 40 ? `${text.slice(0, 39)}…` : text);

  // `list`: { key, name, n, first, at: a place in the space on two or three axes }.
  function show(list) {
    const { font } = getComputedStyle(layer);
    centres = list.map((one) => ({ ...one, text: shorter(one.name) }));
    for (const one of centres) {
      pen.font = one.key === PICK ? `bold ${font.replace(/^(normal|400) /, "")}` : font;
      one.width = pen.measureText(one.text).width + 4;
    }
    for (const key of [...elements.keys()]) {
      if (centres.some((one) => one.key === key)) continue;
      elements.get(key).remove();
      elements.delete(key);
      sides.delete(key);
    }
  }

  // [left, top, right, bottom] of what is drawn on, in pixels of the layer.
  function frame() {
    const { scene, xaxis, yaxis } = plot._fullLayout;
    if (scene && scene._scene) return [0, 0, layer.clientWidth, layer.clientHeight];
    return [xaxis._offset, yaxis._offset, xaxis._offset + xaxis._length, yaxis._offset + yaxis._length];
  }

  // Pixels of the layer; null for what lies behind the reader.
  function project(at, [left, top, right, bottom]) {
    const { scene, xaxis, yaxis } = plot._fullLayout;
    if (at.length === 3) return scene && scene._scene ? inSpace(scene._scene, at) : null;
    if (scene && scene._scene) return null;
    const share = ({ range: [low, high] }, value) => (value - low) / (high - low);
    return [left + share(xaxis, at[0]) * (right - left), bottom - share(yaxis, at[1]) * (bottom - top)];
  }

  function inSpace({ glplot, dataScale }, at) {
    if (!glplot) return null;
    const { model, view, projection } = glplot.cameraParams;
    const start = [...at.map((value, i) => value * dataScale[i]), 1];
    const [x, y, , w] = [model, view, projection].reduce((vector, matrix) =>
      [0, 1, 2, 3].map((row) => vector.reduce((sum, value, column) => sum + matrix[4 * column + row] * value, 0)), start);
    return w > 0 ? [(layer.clientWidth * (1 + x / w)) / 2, (layer.clientHeight * (1 - y / w)) / 2] : null;
  }

  // First the chosen adapter and its group, then who has a name already, so that few change while the plot turns;
  // then the largest.
  function inTurn(marks) {
    const rank = ({ first, key }) => (key === PICK ? 4 : 0) + (first ? 2 : 0) + (sides.has(key) ? 1 : 0);
    return [...marks].sort((a, b) => rank(b) - rank(a) || b.n - a.n).slice(0, MOST_TRIED);
  }

  function place() {
    if (!plot._fullLayout) return;
    const bounds = frame(), [left, top, right, bottom] = bounds;
    const marks = centres.flatMap((one) => {
      const [x, y] = project(one.at, bounds) || [NaN, NaN];
      return x >= left && x <= right && y >= top && y <= bottom ? [{ ...one, x, y }] : [];
    });
    const taken = marks.map(({ x, y }) => [x - HALF_MARK, y - HALF_MARK, x + HALF_MARK, y + HALF_MARK]);
    const chosen = new Map();
    for (const mark of inTurn(marks)) {
      // Only the chosen adapter's name may cover marks: it is never left out.
      const others = mark.key === PICK ? [] : taken;
      const found = lorastyle.geometry.freeSide(mark, HEIGHT, sides.get(mark.key) || 0, others, bounds);
      if (!found) continue;
      taken.push(found.box);
      chosen.set(mark.key, { ...found, text: mark.text });
    }
    write(chosen);
  }

  function write(chosen) {
    for (const [key, element] of elements) if (!chosen.has(key)) element.hidden = true;
    sides.clear();
    for (const [key, { box: [left, top], side, text }] of chosen) {
      sides.set(key, side);
      if (!elements.has(key)) {
        elements.set(key, document.createElement("span"));
        elements.get(key).className = key === PICK ? PICK : "";
        layer.append(elements.get(key));
      }
      const element = elements.get(key);
      element.hidden = false;
      element.textContent = text;
      element.style.transform = `translate(${Math.round(left)}px,${Math.round(top)}px)`;
    }
  }

  // A scene calls this at the end of each frame, for annotations: names are ours.
  function follow() {
    const { scene } = plot._fullLayout;
    if (scene && scene._scene) scene._scene.drawAnnotations = place;
    place();
  }

  // Plotly's listeners go with a plot that is taken down.
  function listenToPlot() {
    for (const event of ["plotly_relayouting", "plotly_relayout", "plotly_afterplot"]) plot.on(event, follow);
  }

  return { show, follow, listenToPlot };
};
