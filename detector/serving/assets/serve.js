"use strict";
// The page: one image at a time. The threshold and the layers only choose what is drawn; the model does not run again.
// Names reach the page as text; the card is the server's HTML, escaped there.
const $ = (id) => document.getElementById(id);

function make(name, content = [], attributes = {}, namespace = "http://www.w3.org/1999/xhtml") {
  const made = document.createElementNS(namespace, name);
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  made.append(...[content].flat());
  return made;
}
const draw = (name, attributes, content = []) => make(name, content, attributes, "http://www.w3.org/2000/svg");
const rectangle = ([x1, y1, x2, y2], attributes) => draw("rect", { x: x1, y: y1, width: x2 - x1, height: y2 - y1, ...attributes });
const swatch = (colour) => draw("svg", { class: "swatch" }, [draw("rect", { width: "100%", height: "100%", fill: colour })]);

// A name inside the upper left corner of a box; its size is a part of the image's.
function tag(text, [x1, y1]) {
  const size = Math.max(result.width, result.height) / 36;
  return draw("text", { x: x1 + size / 4, y: y1 + size * 1.1, "font-size": size }, [text]);
}

let result = null; // what /detect answered for the image in the page
let chosen = null; // the box that the networks are asked about
let maxBytes = Infinity;

async function ask(path, type, body) {
  const answer = await fetch(path, type ? { method: "POST", headers: { "Content-Type": type }, body } : {});
  const value = await answer.json().catch(() => ({}));
  if (!answer.ok) throw new Error(value.error ?? "the server failed; see its terminal");
  return value;
}

// One request at a time: while it lasts the buttons rest. An error is told and changes nothing else.
async function alone(told, work) {
  if (document.body.classList.contains("busy")) return;
  const controls = document.querySelectorAll("#file, #camera, #take");
  document.body.classList.add("busy");
  for (const control of controls) control.disabled = true;
  $("status").textContent = told;
  try {
    $("status").textContent = await work();
  } catch (error) {
    $("status").textContent = error instanceof TypeError ? "The server does not answer; is it running?" : `Error: ${error.message}`;
  } finally {
    document.body.classList.remove("busy");
    for (const control of controls) control.disabled = false;
  }
}

const detect = (blob, name) => alone("Detecting …", async () => {
  if (blob.size > maxBytes) throw new Error(`${name} has more than ${maxBytes / 1e6} MB; make it smaller`);
  result = await ask("detect", "application/octet-stream", blob);
  chosen = null;
  $("image").src = result.url;
  $("image").alt = name;
  $("boxes").setAttribute("viewBox", `0 0 ${result.width} ${result.height}`);
  $("view").hidden = false;
  $("networks").replaceChildren();
  $("hint").hidden = false;
  const on = new Set([...document.querySelectorAll("#sources :checked")].map((box) => box.value));
  $("sources").replaceChildren(...result.sources.map(({ name, colour, boxes }) => {
    const box = make("input", [], { type: "checkbox", value: name });
    box.checked = on.has(name);
    box.addEventListener("change", show);
    return make("label", [box, swatch(colour), `${name} (${boxes.length})`]);
  }));
  $("best").max = Math.max(1, ...result.sources.map((source) => source.boxes.length));
  $("best").value = Math.min(100, $("best").max);
  show();
  return `${name}: ${result.width} x ${result.height} pixels, ${result.seconds.toFixed(2)} s`;
});

const detections = () => result.detections.filter((found) => found.score >= Number($("threshold").value));
const proposals = () => result.sources
  .filter((_, i) => $("sources").querySelectorAll("input")[i].checked)
  .flatMap(({ boxes, colour }) => boxes.slice(0, Number($("best").value)).map((box) => ({ box, colour })));

function show() {
  $("least").textContent = Number($("threshold").value).toFixed(2);
  $("many").textContent = `${$("best").value} of each source`;
  if (!result) return;
  const found = detections();
  $("boxes").replaceChildren(
    ...proposals().map(({ box, colour }) => rectangle(box, { class: "proposal", stroke: colour })),
    ...[...found].reverse().flatMap(({ box, colour, name, score }) => [
      rectangle(box, { class: "seam" }), rectangle(box, { class: "box", stroke: colour }), tag(`${name} ${score.toFixed(2)}`, box),
    ]),
    ...(chosen ? [rectangle(chosen, { class: "chosen" })] : []),
  );
  $("found").replaceChildren(...found.map(({ box, score, name, colour }) => {
    const button = make("button", [swatch(colour), name, make("span", score.toFixed(2), { class: "score" })], { type: "button", "aria-pressed": box === chosen });
    button.addEventListener("click", () => choose(box));
    return make("li", button);
  }));
  if (!found.length) $("found").append(make("li", "Nothing at this score."));
}

const choose = (box) => alone("Asking the networks …", async () => {
  const answers = await ask("region", "application/json", JSON.stringify({ image: result.image, box }));
  chosen = box;
  $("hint").hidden = true;
  $("networks").replaceChildren(...answers.flatMap(({ network, classes, overlap }) => [
    make("h3", overlap === null ? network : `${network} (overlap with an object ${overlap.toFixed(2)})`),
    make("table", classes.map(([name, probability]) => make("tr", [
      make("td", name), make("td", make("meter", [], { value: probability })), make("td", probability.toFixed(2)),
    ]))),
  ]));
  show();
  return "The region's classes are under Networks.";
});

// Of the boxes that are drawn and hold the point, the smallest.
$("boxes").addEventListener("click", (event) => {
  const area = $("boxes").getBoundingClientRect();
  const x = ((event.clientX - area.left) / area.width) * result.width;
  const y = ((event.clientY - area.top) / area.height) * result.height;
  const size = ([x1, y1, x2, y2]) => (x2 - x1) * (y2 - y1);
  const hit = [...detections(), ...proposals()].map(({ box }) => box)
    .filter(([x1, y1, x2, y2]) => x1 <= x && x < x2 && y1 <= y && y < y2)
    .sort((a, b) => size(a) - size(b));
  if (hit.length) choose(hit[0]);
});

$("file").addEventListener("change", () => {
  const [file] = $("file").files;
  $("file").value = ""; // so that the same file can be opened again
  if (file) detect(file, file.name);
});
document.addEventListener("dragover", (event) => event.preventDefault());
document.addEventListener("drop", (event) => {
  event.preventDefault();
  const [file] = event.dataTransfer.files;
  if (file) detect(file, file.name);
});
for (const id of ["threshold", "best"]) $(id).addEventListener("input", show);

function camera(stream) {
  for (const track of $("video").srcObject?.getTracks() ?? []) track.stop();
  $("video").srcObject = stream;
  $("video").hidden = $("take").hidden = !stream;
  $("view").hidden = Boolean(stream) || !result;
  $("camera").textContent = stream ? "Stop the camera" : "Camera";
}
$("camera").addEventListener("click", async () => {
  if ($("video").srcObject) return camera(null);
  try {
    camera(await navigator.mediaDevices.getUserMedia({ video: { width: { ideal: 1280 } } }));
    await $("video").play();
  } catch (error) {
    $("status").textContent = `Error: no camera (${error.message})`;
  }
});
$("take").addEventListener("click", () => {
  const canvas = make("canvas", [], { width: $("video").videoWidth, height: $("video").videoHeight });
  canvas.getContext("2d").drawImage($("video"), 0, 0);
  camera(null);
  canvas.toBlob((blob) => detect(blob, "camera"), "image/jpeg", 0.95);
});

ask("model").then((model) => {
  document.title = `Try ${model.name}`;
  $("name").textContent = model.name;
  $("description").textContent = model.description;
  $("facts").textContent = `${model.classes.length} classes: ${model.classes.join(", ")}. Networks: ${model.networks}. Licence: ${model.licence}`;
  $("card").innerHTML = model.card;
  maxBytes = model.max_bytes;
  $("threshold").min = model.least;
  $("threshold").value = model.threshold;
  show();
}).catch((error) => { $("status").textContent = `Error: ${error.message}`; });
