// The confusion matrix on a canvas (200 classes are 40,401 cells), read with the pointer or the arrow keys.
if ($("matrix")) {
  const { background, cells } = data.confusion;
  const n = background + 1;
  const byCell = new Map(cells.map(([row, column, c]) => [row * n + column, c]));
  const rowTotal = new Array(n).fill(0);
  for (const [row, , c] of cells) rowTotal[row] += c;
  const canvas = make("canvas", { tabindex: 0, role: "img", "aria-label": "Confusion matrix; the arrow keys move from cell to cell." });
  const readout = $("matrix-readout");
  let here = null;
  let draw_ = () => {};

  const describe = (row, column, c) => {
    if (row === background && column === background) return "Background taken for background is not counted.";
    if (row === background) return `${nameOf(column)} reported where there is none: ${plural(c, "time")}.`;
    const share = rowTotal[row] ? ` of ${count(rowTotal[row])} (${points(c / rowTotal[row])} %)` : "";
    if (column === background) return `${nameOf(row)} missed: ${count(c)}${share}.`;
    return `${nameOf(row)} ${row === column ? "recognised" : `taken for ${nameOf(column)}`}: ${count(c)}${share}.`;
  };
  const look = (row, column) => {
    here = [row, column];
    readout.textContent = describe(row, column, byCell.get(row * n + column) || 0);
    draw_();
  };

  const rowName = (i) => (i === background ? "nothing there" : nameOf(i));
  const columnName = (i) => (i === background ? "missed" : nameOf(i));
  const render = (width) => {
    const labels = width / n >= 15;
    const measure = canvas.getContext("2d");
    measure.font = `12px ${getComputedStyle(document.documentElement).getPropertyValue("--font")}`;
    const longest = Math.max(...Array.from({ length: n }, (_, i) => measure.measureText(rowName(i)).width));
    const margin = labels ? Math.min(longest + 12, 150, width * 0.28) : 22;
    const size = (width - margin) / n;
    const ratio = devicePixelRatio || 1;
    canvas.width = Math.round(width * ratio);
    canvas.height = Math.round(width * ratio);
    const pen = canvas.getContext("2d");
    draw_ = () => {
      const style = getComputedStyle(document.documentElement);
      const colour = (name) => style.getPropertyValue(name).trim();
      pen.setTransform(ratio, 0, 0, ratio, 0, 0);
      pen.clearRect(0, 0, width, width);
      pen.fillStyle = colour("--faint");
      pen.fillRect(margin, margin, n * size, n * size);
      const gap = size > 8 ? 1 : 0;
      for (const [row, column, c] of cells) {
        // The square root keeps rare confusions visible beside a strong diagonal.
        const strength = Math.sqrt(c / (row === background ? Math.max(...rowTotal) : rowTotal[row] || 1));
        pen.fillStyle = `rgba(${colour("--cell")}, ${Math.min(1, 0.08 + 0.92 * strength).toFixed(3)})`;
        pen.fillRect(margin + column * size, margin + row * size, size - gap, size - gap);
        if (size < 30) continue;
        pen.fillStyle = colour(strength > 0.6 ? "--on-accent" : "--ink");
        pen.font = `12px ${colour("--font")}`;
        pen.textAlign = "center";
        pen.textBaseline = "middle";
        pen.fillText(count(c), margin + (column + 0.5) * size, margin + (row + 0.5) * size);
      }
      pen.fillStyle = colour("--soft");
      pen.font = `${Math.min(12, Math.max(9, size * 0.7))}px ${colour("--font")}`;
      pen.textBaseline = "middle";
      if (labels) {
        for (let i = 0; i < n; i++) {
          const text = short(pen, columnName(i), margin - 8);
          const down = short(pen, rowName(i), margin - 8);
          pen.textAlign = "right";
          pen.fillText(down, margin - 6, margin + (i + 0.5) * size);
          pen.save();
          pen.translate(margin + (i + 0.5) * size, margin - 6);
          pen.rotate(-Math.PI / 2);
          pen.textAlign = "left";
          pen.fillText(text, 0, 0);
          pen.restore();
        }
      } else {
        pen.font = `12px ${colour("--font")}`;
        pen.textAlign = "center";
        pen.fillText("detected as →", margin + (n * size) / 2, 10);
        pen.save();
        pen.translate(10, margin + (n * size) / 2);
        pen.rotate(-Math.PI / 2);
        pen.fillText("← is in truth", 0, 0);
        pen.restore();
      }
      if (here) {
        pen.strokeStyle = colour("--ink");
        pen.lineWidth = 2;
        pen.strokeRect(margin + here[1] * size - 1, margin + here[0] * size - 1, size + 1, size + 1);
      }
    };
    draw_();
    canvas.onpointermove = (event) => {
      const box = canvas.getBoundingClientRect();
      const column = Math.floor((event.clientX - box.left - margin) / size);
      const row = Math.floor((event.clientY - box.top - margin) / size);
      if (row >= 0 && column >= 0 && row < n && column < n) look(row, column);
    };
  };
  const short = (pen, text, room) => {
    if (pen.measureText(text).width <= room) return text;
    while (text && pen.measureText(`${text}…`).width > room) text = text.slice(0, -1);
    return `${text}…`;
  };

  canvas.addEventListener("keydown", (event) => {
    const move = { ArrowUp: [-1, 0], ArrowDown: [1, 0], ArrowLeft: [0, -1], ArrowRight: [0, 1] }[event.key];
    if (!move) return;
    event.preventDefault();
    const [row, column] = here || [0, -move[1]];
    look(Math.min(n - 1, Math.max(0, row + move[0])), Math.min(n - 1, Math.max(0, column + move[1])));
  });
  canvas.addEventListener("focus", () => { if (!here) look(0, 0); });
  $("matrix").append(canvas);
  responsive($("matrix"), render);
  themeListeners.push(() => draw_());
  readout.textContent = "Rows are what is there, columns what was reported; stronger colour is a larger share of their row.";

  const pairs = cells.filter(([row, column]) => row !== column && row !== background && column !== background).sort((a, b) => b[2] - a[2]).slice(0, 12);
  $("pairs").replaceChildren(...(pairs.length
    ? pairs.map(([row, column, c]) => make("li", {}, make("span", {}, `${nameOf(row)} taken for ${nameOf(column)}`), make("b", {}, `${count(c)} of ${count(rowTotal[row])}`)))
    : [make("li", {}, "No class was taken for another.")]));
}
