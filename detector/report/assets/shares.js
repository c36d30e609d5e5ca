// Recall by size and by shape as columns, calibration as points on a diagonal; each says its numbers when pointed at.
function shares(id, rows) {
  const node = $(id);
  if (!node) return;
  const readout = $(`${id}-readout`);
  const say = ([name, found, total]) => { readout.textContent = `${name}: ${count(found)} of ${plural(total, "object")} found (${total ? points(found / total) : "–"}).`; };
  responsive(node, (width) => {
    // A name of several words takes a line for each.
    const lines = Math.max(...rows.map((row) => row[3].split(" ").length));
    const height = 230, top = 18, bottom = 8 + 15 * lines, gap = Math.max(4, Math.min(14, width / rows.length / 4));
    const svg = draw("svg", { viewBox: `0 0 ${width} ${height}`, role: "img", "aria-label": rows.map(([n, f, t]) => `${n}: ${f} of ${t}`).join("; ") });
    const step = (width + gap) / rows.length;
    rows.forEach((row, i) => {
      const [, found, total, short] = row;
      const share = total ? found / total : 0;
      const full = height - top - bottom;
      const x = i * step, w = step - gap;
      const column = draw("g", {},
        draw("rect", { class: "back", x, y: top, width: w, height: full, rx: 4 }),
        draw("rect", { class: "bar", x, y: top + full * (1 - share), width: w, height: full * share, rx: 4 }),
        draw("text", { class: "name", x: x + w / 2, y: top - 5, "text-anchor": "middle" }, total ? points(share, 0) : "–"),
        draw("text", { "text-anchor": "middle", style: w < 40 ? "font-size:10px" : null }, ...short.split(" ").map((word, line) => draw("tspan", { x: x + w / 2, y: height - bottom + 17 + 15 * line }, word))));
      column.addEventListener("pointerenter", () => say(row));
      svg.append(column);
    });
    node.replaceChildren(svg);
  });
  readout.textContent = `${plural(rows.reduce((n, row) => n + row[2], 0), "object")} in all; a column fills up to the share that was found.`;
}
shares("sizes-chart", data.sizes);
shares("aspects-chart", data.aspects);

if ($("calibration-chart")) {
  const node = $("calibration-chart");
  const readout = $("calibration-chart-readout");
  const bins = data.calibration.filter((bin) => bin[2] > 0);
  const most = Math.max(1, ...bins.map((bin) => bin[2]));
  responsive(node, (width) => {
    const { svg, sx, sy } = frame(width, 230, { x: "Score", y: "Correct" });
    svg.append(draw("path", { class: "ideal", d: `M${sx(0)} ${sy(0)}L${sx(1)} ${sy(1)}` }));
    svg.append(draw("path", { class: "line", style: "stroke:var(--accent)", d: bins.map((b, i) => `${i ? "L" : "M"}${sx(b[3])} ${sy(b[4])}`).join("") }));
    for (const [low, high, n, score, right] of bins) {
      const dot = draw("circle", { class: "point", cx: sx(score), cy: sy(right), r: 3 + 5 * Math.sqrt(n / most) });
      dot.addEventListener("pointerenter", () => { readout.textContent = `Scores ${low.toFixed(2)} to ${high.toFixed(2)}: ${plural(n, "detection")}, ${points(right)} % correct.`; });
      svg.append(dot);
    }
    node.replaceChildren(svg);
  });
  readout.textContent = `${plural(bins.reduce((n, bin) => n + bin[2], 0), "detection")}; larger points stand for more of them.`;
}
