// Precision against recall: the mean of the classes, and the classes that are chosen in the table.
const picks = new Map();
if ($("pr-chart")) {
  const chart = $("pr-chart");
  const readout = $("pr-readout");
  const buttons = new Map([...document.querySelectorAll("#class-table tr[data-class]")].map((row) => [Number(row.dataset.class), row.querySelector(".pick")]));
  const idle = () => { readout.textContent = "Point at a curve to read a value."; };

  const shown = () => {
    const curves = [...picks].map(([label, slot]) => ({ ...series(slot), name: nameOf(label), ap: data.classes[label].ap, ...data.classes[label].curve }));
    if (data.mean.r.length) curves.push({ name: "Mean of the classes", mean: true, dash: "", ...data.mean });
    return curves;
  };

  const redraw = responsive(chart, (width) => {
    const { svg, sx, sy } = frame(width, Math.min(width, 380), { x: "Recall", y: "Precision" });
    const curves = shown();
    for (const curve of curves) {
      if (!curve.r.length) continue;
      svg.append(draw("path", {
        class: curve.mean ? "line mean" : "line", d: steps(curve.r, curve.p, sx, sy),
        style: curve.mean ? null : `stroke:${curve.colour};stroke-dasharray:${curve.dash || "none"}`,
      }));
      // Where a curve ends before full recall, the rest of the objects was never found.
      const last = curve.r.length - 1;
      if (!curve.mean) svg.append(draw("circle", { class: "end", cx: sx(curve.r[last]), cy: sy(curve.p[last]), r: 3.5, style: `fill:${curve.colour}` }));
    }
    const cursor = svg.appendChild(draw("circle", { class: "cursor", r: 5, visibility: "hidden" }));
    svg.addEventListener("pointermove", (event) => {
      const [px, py] = at(svg, event);
      let best = null;
      for (const curve of curves) {
        for (let i = 0; i < curve.r.length; i++) {
          const far = Math.hypot(sx(curve.r[i]) - px, sy(curve.p[i]) - py);
          if (!best || far < best.far) best = { far, curve, i };
        }
      }
      if (!best) return;
      const { curve, i } = best;
      fill(cursor, { cx: sx(curve.r[i]), cy: sy(curve.p[i]), visibility: "visible", style: `fill:${curve.mean ? "var(--ink)" : curve.colour}` }, []);
      const score = curve.s && curve.s[i] !== null && curve.s[i] !== undefined ? ` with scores from ${curve.s[i].toFixed(2)}` : "";
      readout.textContent = `${curve.name}: precision ${points(curve.p[i])} at recall ${points(curve.r[i])}${score}`;
    });
    svg.addEventListener("pointerleave", () => { cursor.setAttribute("visibility", "hidden"); idle(); });
    chart.replaceChildren(svg);
    $("pr-legend").replaceChildren(...curves.map((curve) => make("span", {},
      draw("svg", { width: 26, height: 8, "aria-hidden": "true" }, draw("line", { x1: 1, x2: 25, y1: 4, y2: 4, "stroke-width": 2.5, style: `stroke:${curve.mean ? "var(--ink)" : curve.colour};stroke-dasharray:${curve.dash || "none"}` })),
      curve.mean ? curve.name : `${curve.name} ${points(curve.ap)}`)));
  });

  const toggle = (label) => {
    if (picks.has(label)) picks.delete(label);
    else {
      // The lowest free place, so that a class keeps its colour while others come and go.
      const taken = new Set(picks.values());
      let slot = 0;
      while (taken.has(slot)) slot++;
      picks.set(label, slot);
    }
    const button = buttons.get(label);
    button.setAttribute("aria-pressed", picks.has(label));
    if (picks.has(label)) button.style.setProperty("--series", series(picks.get(label)).colour);
  };
  for (const [label, button] of buttons) button.addEventListener("click", () => { toggle(label); redraw(); });

  const ranked = data.classes.map((c, label) => [c.ap, label]).filter(([ap]) => ap !== null).sort((a, b) => b[0] - a[0]);
  new Set([ranked[0], ranked[ranked.length - 1]].filter(Boolean).map(([, label]) => label)).forEach(toggle);
  idle();
  redraw();
}
