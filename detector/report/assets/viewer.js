// Pictures with boxes: a frame that shows a region of a picture, and the dialog that opens one.
let parsedPictures = null;
const pictures = () => (parsedPictures ??= JSON.parse($("pictures").textContent));

const rectangle = ([x1, y1, x2, y2], attributes) => draw("rect", { x: x1, y: y1, width: Math.max(0, x2 - x1), height: Math.max(0, y2 - y1), ...attributes });

// The region [x, y, w, h] of a picture with the aspect of its frame; lines and dashes keep their width at any zoom.
function placed(picture, [x, y, w, h], rectangles, { large = false, lazy = true } = {}) {
  const source = large ? picture.large : picture.src;
  const style = `left:${(-100 * x) / w}%;top:${(-100 * y) / h}%;width:${(100 * picture.w) / w}%;height:${(100 * picture.h) / h}%`;
  const svg = draw("svg", { class: "boxes", viewBox: `0 0 ${picture.w} ${picture.h}`, preserveAspectRatio: "none", style, "aria-hidden": "true" }, ...rectangles);
  if (!source) return [make("div", { class: "gone" }, "The picture's file was not found."), svg];
  const image = make("img", { alt: "", style, decoding: "async", loading: lazy ? "lazy" : null });
  image.src = source;
  return [image, svg];
}

// A name above a box, or under its upper edge where there is no room.
function tag(text, [x1, y1], [x, y, w, h]) {
  const top = (100 * (y1 - y)) / h;
  const style = top > 7 ? `bottom:calc(${100 - top}% + 3px)` : `top:calc(${Math.max(0, top)}% + 3px)`;
  return make("div", { class: "tag", style: `left:clamp(0px, ${(100 * (x1 - x)) / w}%, 100% - 4rem);${style}` }, text);
}

// A region of the wanted aspect around a box: near enough to see it, far enough to see where it is.
function around(picture, box, aspect, least) {
  const [x1, y1, x2, y2] = box;
  const cover = Math.max(picture.w, picture.h * aspect);
  const side = Math.min(cover, Math.max(least * cover, 1.8 * Math.max(x2 - x1, (y2 - y1) * aspect)));
  const [w, h] = [side, side / aspect];
  const place = (centre, length, all) => (length >= all ? (all - length) / 2 : Math.min(Math.max(0, centre - length / 2), all - length));
  return [place((x1 + x2) / 2, w, picture.w), place((y1 + y2) / 2, h, picture.h), w, h];
}

// The box that the case is about; dashed when it is an object, solid when it is a detection.
const focus = (shown, box) => [rectangle(box, { class: "seam-focus" }), rectangle(box, { class: isMiss(shown.kind) && box === shown.box ? "truths focus" : "focus" })];
const same = (a, b) => a.every((v, i) => i > 3 || Math.abs(v - b[i]) < 0.11);
const isMiss = (kind) => kind.startsWith("miss");

const viewer = (() => {
  const dialog = $("view");
  if (!dialog) return { open: () => {} };
  const stage = $("view-stage");
  const slider = $("view-score");
  let cases = [], index = 0;

  // At its left end the slider hides nothing, not even scores below 0.
  const threshold = () => (Number(slider.value) > 0 ? Number(slider.value) : -Infinity);
  const layers = () => Object.fromEntries([...dialog.querySelectorAll("[data-layer]")].map((box) => [box.dataset.layer, box.checked]));

  function boxes(picture, shown, on, least, marked) {
    const list = [];
    if (on.proposals) {
      for (const p of picture.proposals) list.push(rectangle(p, { class: "proposals", style: `stroke:${data.sources[p[4]].colour}` }));
    }
    const add = (box, class_) => list.push(rectangle(box, { class: "seam" }), rectangle(box, { class: class_ }));
    if (on.truths) for (const t of picture.truths) add(t, "truths");
    if (on.detections) {
      for (const d of [...picture.detections].reverse()) if (d[5] >= least) add(d, `detections ${d[6] === "" ? "right" : d[6] === "ignored" ? "ignored" : ""}`);
    }
    list.push(...focus(shown, marked || shown.box));
    return list;
  }

  function listing(picture, shown, least) {
    const row = (box, first, second, third, is) => {
      const node = make("tr", { class: is ? "focus" : null }, make("td", {}, first), make("th", { scope: "row" }, second), make("td", {}, third));
      node.addEventListener("pointerenter", () => paint(box, `${second} ${first}`));
      node.addEventListener("pointerleave", () => paint());
      return node;
    };
    const rows = picture.detections.filter((d) => d[5] >= least).map((d) => row(d, d[5].toFixed(2), nameOf(d[4]), d[6] ? kindName(d[6]) : "correct", !isMiss(shown.kind) && same(d, shown.box) && d[4] === shown.label));
    const truths = picture.truths.map((t) => row(t, "object", nameOf(t[4]), t[5], isMiss(shown.kind) && same(t, shown.box)));
    return make("table", {}, make("caption", {}, "Objects and detections of this picture"), make("tbody", {}, truths, rows));
  }

  function show() {
    const shown = cases[index];
    const picture = pictures()[shown.picture];
    const least = threshold();
    $("view-score-out").textContent = Number(slider.value).toFixed(2);
    $("view-title").textContent = title(shown);
    $("view-note").textContent = [`${index + 1} of ${cases.length}`, picture.id, shown.note, [plural(picture.truths.length, "object"), plural(picture.detections.length, "detection"), picture.proposals.length ? plural(picture.proposals.length, "proposal") : null].filter(Boolean).join(", ")].filter(Boolean).join(" · ");
    $("view-back").disabled = index === 0;
    $("view-next").disabled = index === cases.length - 1;
    paint();
    const list = $("view-list");
    list.replaceChildren(listing(picture, shown, least));
    const row = list.querySelector("tr.focus");
    list.scrollTop = row ? list.scrollTop + row.getBoundingClientRect().top - list.getBoundingClientRect().top - 40 : 0;
    dialog.querySelector("[data-layer=proposals]").closest("label").hidden = !picture.proposals.length;
  }
  // Draws the case, or another box of the same picture that is pointed at in the list.
  function paint(marked = null, text = null) {
    const shown = cases[index];
    const picture = pictures()[shown.picture];
    const node = stage.querySelector(".frame") || stage.appendChild(make("div", { class: "frame" }));
    const aspect = node.clientWidth / node.clientHeight || 1.5;
    const region = around(picture, shown.box, aspect, $("view-zoom").checked ? 0.05 : 1);
    const [image, svg] = placed(picture, region, boxes(picture, shown, layers(), threshold(), marked), { large: true, lazy: false });
    const name = text || `${nameOf(shown.label)}${isMiss(shown.kind) ? "" : ` ${shown.score.toFixed(2)}`}`;
    // The picture itself stays when only boxes change, so that nothing flickers.
    const old = node.querySelector("img");
    const keep = old && image.tagName === "IMG" && old.src === image.src;
    if (keep) old.style.cssText = image.style.cssText;
    node.replaceChildren(keep ? old : image, svg, tag(name, marked || shown.box, region));
  }
  const step = (by) => {
    if (cases[index + by] === undefined) return;
    index += by;
    show();
  };

  $("view-close").addEventListener("click", () => dialog.close());
  $("view-back").addEventListener("click", () => step(-1));
  $("view-next").addEventListener("click", () => step(1));
  dialog.addEventListener("click", (event) => { if (event.target === dialog) dialog.close(); });
  dialog.addEventListener("change", show);
  slider.addEventListener("input", show);
  dialog.addEventListener("keydown", (event) => {
    if (event.target === slider) return;
    if (event.key === "ArrowLeft") step(-1);
    if (event.key === "ArrowRight") step(1);
  });
  // The list is walked with the up and down arrows, as with the pointer.
  $("view-list").addEventListener("keydown", (event) => {
    const by = { ArrowUp: -1, ArrowDown: 1 }[event.key];
    if (!by) return;
    event.preventDefault();
    const rows = [...event.currentTarget.querySelectorAll("tr")];
    const now = rows.findIndex((row) => row.classList.contains("marked"));
    const next = rows[Math.min(rows.length - 1, Math.max(0, now < 0 ? 0 : now + by))];
    rows[now]?.classList.remove("marked");
    next.classList.add("marked");
    next.dispatchEvent(new Event("pointerenter"));
    next.scrollIntoView({ block: "nearest" });
  });
  addEventListener("resize", () => { if (dialog.open) show(); });

  function open(list, at) {
    [cases, index] = [list, at];
    dialog.showModal();
    show();
  }
  return { open };
})();

function title(shown) {
  const name = nameOf(shown.label);
  const score = shown.score === null ? "" : ` (${shown.score.toFixed(2)})`;
  if (isMiss(shown.kind)) return `${name}: ${kindName(shown.kind).toLocaleLowerCase()}`;
  const taken = shown.other !== null && shown.other !== shown.label ? `, in truth ${nameOf(shown.other)}` : "";
  return `${name}${score}: ${kindName(shown.kind).toLocaleLowerCase()}${taken}`;
}
