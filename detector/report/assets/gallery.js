// The gallery: filters, and cards that are made a page at a time, so that thousands of cases cost nothing.
if ($("gallery-filter")) {
  const PAGE = 24;
  const form = $("gallery-filter");
  const kindBoxes = [...form.querySelectorAll(".chips input")];
  const area = ({ box }) => (box[2] - box[0]) * (box[3] - box[1]);
  const orders = {
    worst: null,
    high: (a, b) => b.score - a.score,
    low: (a, b) => a.score - b.score,
    large: (a, b) => area(b) - area(a),
    small: (a, b) => area(a) - area(b),
  };
  let found = [];

  function card(shown, index) {
    const picture = pictures()[shown.picture];
    const miss = isMiss(shown.kind);
    const frameNode = make("div", { class: "frame" }, ...placed(picture, around(picture, shown.box, 4 / 3, 0.45), focus(shown, shown.box)));
    const button = make("button", { type: "button", class: "card-open", "data-kind": shown.kind, "data-label": shown.label, "data-score": shown.score },
      frameNode,
      make("div", { class: "card-text" },
        make("div", { class: "line-1" }, make("span", {}, nameOf(shown.label)), make("span", {}, miss && !shown.score ? "" : shown.score.toFixed(2))),
        make("div", {}, kindName(shown.kind) + (shown.other !== null && shown.other !== shown.label ? `: ${nameOf(shown.other)}` : "")),
        make("div", { class: "line-2", title: picture.id }, picture.id)));
    button.addEventListener("click", () => viewer.open(found, index));
    return button;
  }

  function more() {
    const start = $("cards").childElementCount;
    $("cards").append(...found.slice(start, start + PAGE).map((shown, i) => card(shown, start + i)));
    $("more").hidden = $("cards").childElementCount >= found.length;
  }

  function apply() {
    const kinds = new Set(kindBoxes.filter((box) => box.checked).map((box) => box.value));
    const label = $("by-class").value;
    // An empty field is no limit: scores need not be probabilities.
    const [from, to] = [["score-from", -Infinity], ["score-to", Infinity]].map(([id, none]) => ($(id).value === "" ? none : Number($(id).value)));
    const name = $("by-name").value.trim().toLocaleLowerCase();
    found = data.cases.filter((c) => kinds.has(c.kind) && (label === "" || c.label === Number(label)) && c.score >= from && c.score <= to
      && (!name || pictures()[c.picture].id.toLocaleLowerCase().includes(name)));
    if (orders[$("order").value]) found.sort(orders[$("order").value]);
    $("cards").replaceChildren();
    more();
    const all = data.casesInAll > data.cases.length ? ` The page holds the worst ${count(data.cases.length)} of ${count(data.casesInAll)}.` : "";
    $("gallery-count").textContent = `${found.length === data.cases.length ? plural(found.length, "case") : `${count(found.length)} of ${plural(data.cases.length, "case")}`}.${all}`;
  }

  form.addEventListener("submit", (event) => event.preventDefault());
  // The pictures stand at the end of the page, after this script.
  const whenRead = (action) => { if (document.readyState === "loading") addEventListener("DOMContentLoaded", action); else action(); };
  form.addEventListener("input", () => whenRead(apply));
  $("more").addEventListener("click", more);
  // A count in the error analysis leads to its cases.
  for (const link of document.querySelectorAll("a[data-kind]")) {
    link.addEventListener("click", () => {
      kindBoxes.forEach((box) => { box.checked = box.value === link.dataset.kind; });
      whenRead(apply);
    });
  }
  // The pictures are parsed when the gallery comes near, not before the numbers can be read.
  const near = new IntersectionObserver((entries) => {
    if (!entries.some((entry) => entry.isIntersecting)) return;
    near.disconnect();
    whenRead(start);
  }, { rootMargin: "1200px" });
  function start() {
    apply();
    const end = new IntersectionObserver((seen) => {
      if (!seen.some((entry) => entry.isIntersecting) || $("more").hidden) return;
      more();
      // Watched anew, the end reports again if it is still in view: a change alone would not happen.
      end.unobserve($("more"));
      end.observe($("more"));
    }, { rootMargin: "600px" });
    end.observe($("more"));
  }
  near.observe($("gallery"));
}
