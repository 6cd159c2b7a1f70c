"use strict";
// Pointer and arrow keys on the plot.
lorastyle.makePointer = (app, panels) => {
  const byId = (id) => document.getElementById(id);
  const plot = byId("plot"), stage = byId("stage");
  let pointer = [0, 0], under = -1, pressed = null;

  // What the tip tells: an adapter or, where none is, the group whose centre it is.
  function show(row, centre = null) {
    under = row;
    panels.tip(row, centre, ...pointer, stage.clientWidth, stage.clientHeight);
  }

  function polygon(event) {
    if (event && event.lassoPoints) return event.lassoPoints.x.map((x, i) => [x, event.lassoPoints.y[i]]);
    if (!event || !event.range) return null;
    const { x: [a, b], y: [c, d] } = event.range;
    return [[a, c], [b, c], [b, d], [a, d]];
  }

  // What Plotly tells. Its listeners go with a plot that is taken down.
  function listenToPlot() {
    const markOf = ({ points }) => {
      const point = points && points[0];
      return { trace: (point && app.drawn[point.curveNumber]) || {}, number: point && point.pointNumber };
    };
    const rowOf = (event) => {
      const { trace, number } = markOf(event);
      return trace.rows && number in trace.rows ? trace.rows[number] : -1;
    };
    const centreOf = (event) => {
      const { trace, number } = markOf(event);
      return trace.centres && number in trace.centres ? trace.centres[number] : null;
    };
    plot.on("plotly_hover", (event) => show(rowOf(event), centreOf(event)));
    plot.on("plotly_unhover", () => show(-1));
    plot.on("plotly_click", (event) => { if (app.state.dims === 2 && rowOf(event) >= 0) app.actions.pick(rowOf(event)); });
    plot.on("plotly_selected", (event) => {
      const corners = polygon(event);
      if (!corners) return;
      app.selections++;
      app.actions.area(corners);
    });
  }

  function followPointer() {
    stage.addEventListener("pointermove", (event) => {
      const box = stage.getBoundingClientRect();
      pointer = [event.clientX - box.left, event.clientY - box.top];
    }, true);
    stage.addEventListener("pointerleave", () => show(-1));
    // In 3D Plotly tells of a click whenever the button is down while it draws: a short one is lost, and
    // turning the plot would choose what passes under the pointer.
    stage.addEventListener("pointerdown", () => { pressed = pointer; }, true);
    stage.addEventListener("pointerup", () => {
      const still = pressed && Math.hypot(pointer[0] - pressed[0], pointer[1] - pressed[1]) < 4;
      if (app.state.dims === 3 && still && under >= 0) app.actions.pick(under);
    }, true);
  }

  function zoom(factor) {
    if (app.state.dims === 3) {
      const { eye } = plot._fullLayout.scene._scene.getCamera();
      const nearer = Object.fromEntries(Object.entries(eye).map(([key, value]) => [key, value * factor]));
      return look(nearer);
    }
    const closer = ({ range: [a, b] }) => [(a + b) / 2 - ((b - a) / 2) * factor, (a + b) / 2 + ((b - a) / 2) * factor];
    const { xaxis, yaxis } = plot._fullLayout;
    return Plotly.relayout(plot, { "xaxis.range": closer(xaxis), "yaxis.range": closer(yaxis) });
  }

  // What a reader without a mouse has instead of drawing one: a box that begins at the chosen
  // adapter, or in the middle, and grows by a twentieth of the plot.
  function grow([right, up]) {
    const { state: { area, axes }, view: { placed, pick, space: { scores, k } } } = app;
    const spans = [plot._fullLayout.xaxis, plot._fullLayout.yaxis].map(({ range: [low, high] }) => [low, high]);
    const box = spans.map(([low, high], i) => {
      const values = area ? area.map((corner) => corner[i]) : [placed ? scores[pick * k + axes[i]] : (low + high) / 2];
      const wide = area ? 0 : (high - low) / 40;
      return [Math.min(...values) - wide, Math.max(...values) + wide];
    });
    [right, up].forEach((step, i) => {
      if (step) box[i][step > 0 ? 1 : 0] += (step * (spans[i][1] - spans[i][0])) / 20;
    });
    const [[a, b], [c, d]] = box;
    return app.actions.area([[a, c], [b, c], [b, d], [a, d]]);
  }

  // By a twelfth of a half turn round the upright axis, or up and down short of the poles.
  function turn([right, up]) {
    const { x, y, z } = plot._fullLayout.scene._scene.getCamera().eye, step = Math.PI / 12;
    const far = Math.hypot(x, y, z), round = Math.atan2(y, x) + right * step;
    const high = Math.max(-1.4, Math.min(1.4, Math.asin(z / far) + up * step));
    return look({ x: far * Math.cos(high) * Math.cos(round), y: far * Math.cos(high) * Math.sin(round), z: far * Math.sin(high) });
  }

  const look = (eye) => Plotly.relayout(plot, { "scene.camera.eye": eye });

  const ARROWS = { ArrowRight: [1, 0], ArrowLeft: [-1, 0], ArrowUp: [0, 1], ArrowDown: [0, -1] };
  function byKey(event) {
    const { state, view } = app, direction = ARROWS[event.key];
    if (event.ctrlKey || event.altKey || event.metaKey || !view) return undefined;
    if (event.key === "Enter" && state.pick >= 0) return byId("picked").focus();
    if (event.key === "+" || event.key === "-") return zoom(event.key === "+" ? 0.7 : 1 / 0.7);
    if (!direction || !view.rows.length) return undefined;
    event.preventDefault();
    if (event.shiftKey) return state.dims === 2 ? grow(direction) : turn(direction);
    if (!view.placed) return app.actions.pick(view.rows[0]);
    const next = lorastyle.geometry.towards(view.space, view.rows, state.pick, state.axes, direction);
    return next >= 0 ? app.actions.pick(next) : undefined;
  }

  // An area first, then the chosen adapter: what came last goes first. Focus goes back to the plot.
  function letGo({ key }) {
    if (key !== "Escape") return;
    if (app.state.area) app.actions.area(null);
    else if (app.state.pick >= 0) app.actions.pick(-1);
    plot.focus();
  }

  followPointer();
  byId("nearer").addEventListener("click", () => zoom(0.7));
  byId("farther").addEventListener("click", () => zoom(1 / 0.7));
  byId("skip").addEventListener("click", () => plot.focus());
  plot.addEventListener("keydown", byKey);
  for (const part of [plot, byId("details")]) part.addEventListener("keydown", letGo);
  return { listenToPlot };
};
