"use strict";
// What is computed from scores: neighbours, centroids, what lies in an area.
lorastyle.geometry = (() => {
  // The `count` rows of `rows` nearest to `from`, by Euclidean distance over the first
  // `n_compared` of `k` components; equals in the order of `rows`.
  function nearest({ scores, k, n_compared: m }, rows, from, count) {
    const found = [];
    const base = from * k;
    for (const row of rows) {
      if (row === from) continue;
      let square = 0;
      for (let c = 0; c < m; c++) {
        const difference = scores[row * k + c] - scores[base + c];
        square += difference * difference;
      }
      if (found.length === count && square >= found[count - 1].square) continue;
      let place = found.length;
      while (place > 0 && found[place - 1].square > square) place--;
      found.splice(place, 0, { row, square });
      if (found.length > count) found.pop();
    }
    return found.map(({ row, square }) => ({ row, distance: Math.sqrt(square) }));
  }

  // The mean of these rows on each of `axes`.
  function centroid({ scores, k }, rows, axes) {
    return axes.map((axis) => rows.reduce((sum, row) => sum + scores[row * k + axis], 0) / rows.length);
  }

  // Whether [x, y] lies in a polygon: a ray to the right crosses its border an odd number of times.
  function inside(polygon, x, y) {
    let odd = false;
    for (let i = 0, j = polygon.length - 1; i < polygon.length; j = i++) {
      const [xi, yi] = polygon[i], [xj, yj] = polygon[j];
      if (yi > y !== yj > y && x < ((xj - xi) * (y - yi)) / (yj - yi) + xi) odd = !odd;
    }
    return odd;
  }

  // The row of `rows` that an arrow key leads to: near, and within 45 degrees of its direction.
  function towards({ scores, k }, rows, from, [x, y], [dx, dy]) {
    let best = -1, least = Infinity;
    for (const row of rows) {
      const across = scores[row * k + x] - scores[from * k + x];
      const up = scores[row * k + y] - scores[from * k + y];
      const along = across * dx + up * dy, aside = Math.abs(across * dy) + Math.abs(up * dx);
      if (row === from || along <= 0 || aside > along) continue;
      const distance = Math.hypot(across, up);
      if (distance < least) [best, least] = [row, distance];
    }
    return best;
  }

  // Where a name of `width` by `height` goes by its mark at (x, y): above, below, right or left,
  // whichever is free first, beginning with side `start`. Boxes are [left, top, right, bottom]; those
  // of `taken` are not free, nor is what leaves the box `frame`. Null where there is no room.
  function freeSide({ x, y, width }, height, start, taken, frame) {
    const aside = width / 2 + 10;
    const steps = [[0, -17], [0, 17], [aside, 0], [-aside, 0]];
    for (let turn = 0; turn < steps.length; turn++) {
      const side = (start + turn) % steps.length, [dx, dy] = steps[side];
      // Above and below a name may be moved into the frame.
      const middle = x + dx - width / 2, top = y + dy - height / 2;
      const left = dx ? middle : Math.max(frame[0], Math.min(middle, frame[2] - width));
      const box = [left, top, left + width, top + height];
      const inFrame = left >= frame[0] && top >= frame[1] && box[2] <= frame[2] && box[3] <= frame[3];
      if (inFrame && !taken.some((other) => overlap(box, other))) return { side, box };
    }
    return null;
  }

  const overlap = (one, other) => one[0] < other[2] && other[0] < one[2] && one[1] < other[3] && other[1] < one[3];

  return { nearest, centroid, inside, towards, freeSide };
})();
