"use strict";
// Pointer and arrow keys on the plot.
lorastyle.makePointer = (app, panels) => {
  const byId = (id) => document.getElementById(id);
  const plot = byId("plot"), stage = byId("stage");
  let pointer = [0, 0], under = -1, pressed = null;

  function show(row) {
    under = row;
    panels.tip(row, ...pointer, stage.clientWidth, stage.clientHeight);
  }

  function polygon(event) {
    if (event && event.lassoPoints) return event.lassoPoints.x.map((x, i) => [x, event.lassoPoints.y[i]]);
    if (!event || !event.range) return null;
    const { x: [a, b], y: [c, d] } = event.range;
    return [[a, c], [b, c], [b, d], [a, d]];
  }

  // What Plotly tells. Its listeners go with a plot that is taken down.
  function listenToPlot() {
    const rowOf = (event) => {
      const point = event.points && event.points[0];
      const rows = point && app.drawn[point.curveNumber] && app.drawn[point.curveNumber].rows;
      return rows && point.pointNumber in rows ? rows[point.pointNumber] : -1;
    };
    plot.on("plotly_hover", (event) => show(rowOf(event)));
    plot.on("plotly_unhover", () => show(-1));
    plot.on("plotly_click", (event) => { if (rowOf(event) >= 0) app.actions.pick(rowOf(event)); });
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
    // In 3D Plotly tells of a click only if the button is down while it draws: short ones are lost.
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
      return Plotly.relayout(plot, { "scene.camera.eye": nearer });
    }
    const closer = ({ range: [a, b] }) => [(a + b) / 2 - ((b - a) / 2) * factor, (a + b) / 2 + ((b - a) / 2) * factor];
    const { xaxis, yaxis } = plot._fullLayout;
    return Plotly.relayout(plot, { "xaxis.range": closer(xaxis), "yaxis.range": closer(yaxis) });
  }

  const ARROWS = { ArrowRight: [1, 0], ArrowLeft: [-1, 0], ArrowUp: [0, 1], ArrowDown: [0, -1] };
  function byKey(event) {
    const { state, view } = app, direction = ARROWS[event.key];
    if (event.key === "Escape" && state.pick >= 0) return app.actions.pick(-1);
    if (!direction || !view.rows.length) return undefined;
    event.preventDefault();
    if (!view.placed) return app.actions.pick(view.rows[0]);
    const next = lorastyle.geometry.towards(view.space, view.rows, state.pick, state.axes, direction);
    return next >= 0 ? app.actions.pick(next) : undefined;
  }

  followPointer();
  byId("nearer").addEventListener("click", () => zoom(0.7));
  byId("farther").addEventListener("click", () => zoom(1 / 0.7));
  stage.addEventListener("keydown", byKey);
  return { listenToPlot };
};
