// A frame with two axes from 0 to 1; returns the drawing and the two scales.
function frame(width, height, { x, y, left = 40, bottom = 40, top = 8, right = 12 }) {
  const sx = (v) => left + v * (width - left - right);
  const sy = (v) => height - bottom - v * (height - bottom - top);
  const svg = draw("svg", { viewBox: `0 0 ${width} ${height}`, role: "img", "aria-label": `${y} against ${x}` });
  for (let i = 0; i <= 5; i++) {
    const v = i / 5;
    svg.append(
      draw("line", { class: i ? "grid" : "axis", x1: sx(0), x2: sx(1), y1: sy(v), y2: sy(v) }),
      draw("text", { x: left - 8, y: sy(v) + 4, "text-anchor": "end" }, `${100 * v}`),
      draw("text", { x: sx(v), y: height - bottom + 18, "text-anchor": "middle" }, `${100 * v}`),
    );
  }
  svg.append(
    draw("text", { x: sx(0.5), y: height - 4, "text-anchor": "middle" }, x),
    draw("text", { transform: `translate(11 ${sy(0.5)}) rotate(-90)`, "text-anchor": "middle" }, y),
  );
  return { svg, sx, sy };
}

// A staircase: up to recall xs[i], the best precision is ys[i].
const steps = (xs, ys, sx, sy) =>
  xs.map((x, i) => `${i ? "V" : `M${sx(0).toFixed(1)} `}${sy(ys[i]).toFixed(1)}H${sx(x).toFixed(1)}`).join("");

// Pointer position in the drawing's own units.
function at(svg, event) {
  const box = svg.getBoundingClientRect();
  return [((event.clientX - box.left) / box.width) * svg.viewBox.baseVal.width,
    ((event.clientY - box.top) / box.height) * svg.viewBox.baseVal.height];
}
