// What every part needs: the data, elements without innerHTML (so no name can become markup), colours, the theme.
const data = JSON.parse(document.getElementById("data").textContent);
const $ = (id) => document.getElementById(id);
const SVG = "http://www.w3.org/2000/svg";

function fill(node, attributes, children) {
  for (const [key, value] of Object.entries(attributes)) {
    if (value === null || value === undefined || value === false) continue;
    node.setAttribute(key, value === true ? "" : value);
  }
  for (const child of children.flat()) if (child !== null && child !== undefined) node.append(child);
  return node;
}
const make = (tag, attributes = {}, ...children) => fill(document.createElement(tag), attributes, children);
const draw = (tag, attributes = {}, ...children) => fill(document.createElementNS(SVG, tag), attributes, children);

const points = (fraction, digits = 1) => (fraction === null || fraction === undefined ? "–" : (100 * fraction).toFixed(digits));
const grouped = new Intl.NumberFormat("en");
const count = (n) => grouped.format(n);
const plural = (n, word) => `${count(n)} ${word}${n === 1 ? "" : "s"}`;
const nameOf = (label) => (data.classes[label] ? data.classes[label].name : "background");
const kindName = (key) => (data.kinds.find((kind) => kind.key === key) || { name: key }).name;

// Seven hues times three dash patterns: curves differ in more than colour.
const HUES = [1, 5, 3, 6, 0, 4, 2];
const DASHES = ["", "8 4", "2 4"];
const series = (i) => ({ colour: `var(--hue-${HUES[i % 7]})`, dash: DASHES[Math.floor(i / 7) % 3] });

// Redraws a chart whenever its box gets another width.
function responsive(node, render) {
  let width = 0;
  const redraw = () => {
    const now = Math.round(node.clientWidth);
    if (now && now !== width) render((width = now));
  };
  new ResizeObserver(redraw).observe(node);
  redraw();
  return () => render(width || Math.round(node.clientWidth));
}

const theme = $("theme");
// Storage may be refused for local files; the choice then lasts as long as the page.
const storage = {
  get: () => { try { return localStorage.getItem("report-theme"); } catch { return null; } },
  set: (value) => { try { localStorage.setItem("report-theme", value); } catch { /* as said */ } },
};
const themeListeners = [];
function applyTheme(value) {
  if (value === "auto") delete document.documentElement.dataset.theme;
  else document.documentElement.dataset.theme = value;
  theme.value = value;
  for (const listener of themeListeners) listener();
}
theme.addEventListener("change", () => { storage.set(theme.value); applyTheme(theme.value); });
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => themeListeners.forEach((f) => f()));
applyTheme(["light", "dark"].includes(storage.get()) ? storage.get() : "auto");

// The section that is being read is marked in the bar.
const links = new Map([...document.querySelectorAll("nav .links a")].map((a) => [a.hash.slice(1), a]));
const reading = new IntersectionObserver((entries) => {
  for (const entry of entries) {
    if (!entry.isIntersecting) continue;
    for (const link of links.values()) link.removeAttribute("aria-current");
    links.get(entry.target.id)?.setAttribute("aria-current", "true");
  }
}, { rootMargin: "-15% 0px -75% 0px" });
document.querySelectorAll("section[id]").forEach((section) => reading.observe(section));

for (const button of document.querySelectorAll("[data-copy]")) {
  button.addEventListener("click", async () => {
    const text = $(button.dataset.copy);
    try {
      await navigator.clipboard.writeText(text.textContent);
      button.textContent = "Copied";
    } catch {
      getSelection().selectAllChildren(text);
      button.textContent = "Selected";
    }
    setTimeout(() => { button.textContent = "Copy"; }, 1500);
  });
}
