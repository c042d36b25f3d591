// Teach a model: fill classes by drop, folder, zip or camera; watch the training; try the result.
// Every form works without this file, too: it then loads the page again.

import { carriesFiles, confirmed, element, openDialog, overLimit, parsed, pause, shape, toast } from "./ui.js";

const AT_ONCE = 2;
const BURST_MILLISECONDS = 200;
const LIVE_MILLISECONDS = 300;
const POLL_MILLISECONDS = 700;
const SHOT_SIDE = 640;
const BARS = 5;

const page = document.getElementById("project");
const says = document.getElementById("says");
let live = null;
let polling = false;

if (page) {
  page.addEventListener("submit", submit);
  page.addEventListener("change", choose);
  page.addEventListener("click", click);
  addEventListener("dragover", (event) => { if (carriesFiles(event)) { event.preventDefault(); mark(event.target); } });
  addEventListener("dragleave", (event) => { if (!event.relatedTarget) mark(null); });
  addEventListener("drop", drop);
  addEventListener("pagehide", stopLive);
  poll();
}
document.getElementById("more-classes")?.addEventListener("click", (event) => {
  const fields = event.target.parentElement.querySelectorAll("input");
  const field = element("input", { name: "class", type: "text", maxlength: "150", autocomplete: "off", "aria-label": `Class ${fields.length + 1}` });
  event.target.before(field);
  field.focus();
});

// Requests

async function send(address, body, part) {
  const headers = { Accept: "application/json", ...(part ? { "X-Part": "result" } : {}) };
  try {
    const answer = await fetch(address, body ? { method: "POST", body, headers } : { headers });
    return { status: answer.status, text: await answer.text() };
  } catch {
    return { status: 0, text: JSON.stringify({ message: "The server cannot be reached. Is it running?" }) };
  }
}

function message(answer) {
  try {
    return JSON.parse(answer.text).message || `The server answered ${answer.status}.`;
  } catch {
    return `The server answered ${answer.status}.`;
  }
}

async function submit(event) {
  const form = event.target;
  if (form.dataset.part === undefined && form.dataset.confirm === undefined) return;
  event.preventDefault();
  if (form.dataset.confirm && !(await confirmed(form.dataset.confirm, form.dataset.says, form.dataset.label))) return;
  if (form.dataset.leaves !== undefined) {
    form.submit();
    return;
  }
  const button = form.querySelector("button");
  const label = button.textContent;
  if (form.dataset.busy) button.textContent = form.dataset.busy;
  form.setAttribute("aria-busy", "true");
  button.disabled = true;
  const answer = await send(form.action, new FormData(form), true);
  if (answer.text.trimStart().startsWith("<")) show(answer.text);
  else {
    toast(message(answer), { seconds: 8 });
    button.disabled = false;
    button.textContent = label;
    form.removeAttribute("aria-busy");
  }
  poll();
}

async function refresh() {
  const answer = await send(page.dataset.address + location.search, null, true);
  if (answer.status === 200) show(answer.text);
}

// Replace the page's content, and keep the focus where it was.
function show(markup) {
  const focused = page.contains(document.activeElement) ? path(document.activeElement) : null;
  const tried = page.querySelector(".tried");
  page.replaceChildren(...parsed(markup));
  const place = page.querySelector(".tried");
  if (tried?.childElementCount && place) place.replaceWith(tried);
  if (live) restartLive();
  if (focused) (find(focused) ?? page.querySelector("h1")).focus?.();
  const alert = page.querySelector("[role=alert]");
  if (alert) alert.scrollIntoView({ block: "nearest" });
}

function path(target) {
  return { label: target.getAttribute("aria-label"), name: target.name, text: target.textContent, kind: target.closest("[data-class]")?.dataset.class };
}

function find({ label, name, text, kind }) {
  const within = kind === undefined ? page : page.querySelector(`[data-class="${CSS.escape(kind)}"]`) ?? page;
  const every = [...within.querySelectorAll("button, input, a, summary")];
  return every.find((one) => (label ? one.getAttribute("aria-label") === label : one.name === name && one.textContent === text));
}

async function poll() {
  if (polling) return;
  polling = true;
  while (state() === "running") {
    await pause(POLL_MILLISECONDS);
    const answer = await send(`${page.dataset.address}?training=1`, null, true);
    if (answer.status !== 200) continue;
    const focused = document.getElementById("training").contains(document.activeElement) ? path(document.activeElement) : null;
    document.getElementById("training").replaceChildren(...parsed(answer.text));
    if (focused) find(focused)?.focus();
    if (state() !== "running") {
      const accuracy = page.querySelector(".accuracy")?.textContent;
      const problem = page.querySelector("#training [role=alert]")?.textContent;
      says.textContent = problem ?? `Trained. ${accuracy}`;
      if (!problem) toast(`Trained: ${accuracy}`);
    }
  }
  polling = false;
}

function state() {
  return page.querySelector("[data-state]")?.dataset.state;
}

// Pictures

function choose(event) {
  const input = event.target;
  if (input.type !== "file" || !input.files.length) return;
  const files = [...input.files];
  if (input.form.classList.contains("try")) tryPicture(input.form, files[0], files[0]);
  else upload(files.map((file) => ({ file, label: input.form.elements.class.value })));
  input.value = "";
}

function mark(target) {
  for (const one of page.querySelectorAll(".over")) one.classList.remove("over");
  target?.closest?.(".class, #trial")?.classList.add("over");
}

async function drop(event) {
  if (!carriesFiles(event)) return;
  event.preventDefault();
  mark(null);
  const label = event.target.closest?.("[data-class]")?.dataset.class ?? "";
  const trial = event.target.closest?.("#trial");
  const files = await collect(event.dataTransfer);
  if (trial && files.length) tryPicture(trial.querySelector("form"), files[0].file, files[0].file);
  else upload(files.map(({ file, folder }) => ({ file, label: label || folder })));
}

// The files of a drop with the names of their folders. Entries must be taken before anything is awaited.
async function collect(data) {
  const entries = [...data.items].filter((item) => item.kind === "file").map((item) => item.webkitGetAsEntry?.() ?? item.getAsFile());
  const files = [];
  for (const entry of entries) await walk(entry, "", files);
  return files;
}

async function walk(entry, folder, files) {
  if (entry instanceof File) files.push({ file: entry, folder });
  else if (entry.isFile) files.push({ file: await new Promise((resolve, reject) => { entry.file(resolve, reject); }), folder });
  else {
    const reader = entry.createReader();
    for (;;) {
      const some = await new Promise((resolve, reject) => { reader.readEntries(resolve, reject); });
      if (!some.length) return;
      for (const inside of some) await walk(inside, entry.name, files);
    }
  }
}

const isPicture = (file) => file.type.startsWith("image/") || /\.(tiff?|hei[cf]|zip)$/i.test(file.name) || file.type.includes("zip");

async function upload(items) {
  const pictures = items.filter(({ file }) => isPicture(file));
  const loose = pictures.filter(({ file, label }) => !label && !/\.zip$/i.test(file.name));
  if (loose.length) {
    toast("Drop pictures on a class, or drop a folder or a zip with one folder for each class.", { seconds: 8 });
    return;
  }
  if (!pictures.length) {
    toast("There are no pictures among these files.");
    return;
  }
  const done = { count: 0, added: 0, same: 0, refused: [] };
  const waiting = [...pictures];
  const work = async () => {
    for (let one = waiting.shift(); one; one = waiting.shift()) {
      await store(one, done);
      done.count++;
      progress(pictures, done.count);
    }
  };
  progress(pictures, 0);
  await Promise.all(Array.from({ length: AT_ONCE }, work));
  await refresh();
  report(done);
}

async function store({ file, label }, done) {
  const most = Number(page.dataset.maxBytes);
  if (!/\.zip$/i.test(file.name) && file.size > most) {
    done.refused.push({ name: file.name, message: overLimit(file.size, most) });
    return;
  }
  if (label && !page.querySelector(`[data-class="${CSS.escape(label)}"]`)) await send(`${page.dataset.address}/classes`, form({ class: label }), true);
  const answer = await send(`${page.dataset.address}/pictures`, form({ class: label, file }));
  if (answer.status !== 200) {
    done.refused.push({ name: file.name, message: message(answer) });
    return;
  }
  const { added, same, refused } = JSON.parse(answer.text);
  done.added += added;
  done.same += same;
  done.refused.push(...refused);
}

function form(fields) {
  const body = new FormData();
  body.set("token", page.querySelector("[name=token]").value);
  for (const [key, value] of Object.entries(fields)) body.set(key, value, ...(value instanceof Blob ? [value.name || "camera.jpg"] : []));
  return body;
}

function progress(pictures, count) {
  for (const label of new Set(pictures.map((one) => one.label))) {
    const bar = page.querySelector(`[data-class="${CSS.escape(label)}"] progress`);
    if (!bar) continue;
    bar.hidden = false;
    bar.value = count / pictures.length;
  }
  says.textContent = count ? `${count} of ${pictures.length} sent` : `Sending ${pictures.length} files`;
}

function report({ added, same, refused }) {
  const parts = [`${added} ${added === 1 ? "picture" : "pictures"} added`];
  if (same) parts.push(`${same} already there`);
  if (refused.length) parts.push(`${refused.length} refused`);
  says.textContent = parts.join(", ");
  if (!refused.length) {
    toast(parts.join(", "));
    return;
  }
  const reasons = refused.slice(0, 50).map((one) => element("li", {}, element("strong", {}, one.name), ` ${one.message}`));
  toast(parts.join(", "), { seconds: 12, action: { label: "Why?", run: () => openDialog("Refused files", element("ul", { class: "stack tight" }, ...reasons)) } });
}

// The camera

function click(event) {
  const button = event.target.closest("button, a");
  if (!button) return;
  if (button.classList.contains("shots")) burst(button.closest("[data-class]").dataset.class);
  else if (button.classList.contains("live")) (live ? stopLive : startLive)();
}

async function openCamera(video) {
  if (!navigator.mediaDevices) throw new Error("Browsers give the camera only to pages at localhost or over HTTPS.");
  try {
    const stream = await navigator.mediaDevices.getUserMedia({ video: { width: { ideal: SHOT_SIDE } }, audio: false });
    video.srcObject = stream;
    await video.play();
    return stream;
  } catch (error) {
    throw new Error(error.name === "NotAllowedError" ? "The camera was not allowed. Allow it in the browser's settings of this page." : "No camera was found, or another program is using it.");
  }
}

function close(stream) {
  for (const track of stream.getTracks()) track.stop();
}

function grab(video) {
  const scale = Math.min(1, SHOT_SIDE / Math.max(video.videoWidth, video.videoHeight));
  const canvas = element("canvas", { width: Math.round(video.videoWidth * scale), height: Math.round(video.videoHeight * scale) });
  canvas.getContext("2d").drawImage(video, 0, 0, canvas.width, canvas.height);
  return canvas;
}

const jpeg = (canvas) => new Promise((resolve) => { canvas.toBlob(resolve, "image/jpeg", 0.92); });

// Pictures are taken for as long as the button is held; a click takes one.
async function burst(label) {
  const video = element("video", { muted: true, playsinline: true });
  const shot = element("button", { type: "button", class: "primary shot" }, "Hold to take pictures");
  const count = element("p", { class: "quiet", role: "status" }, "Each is a little different: move, turn, change the background.");
  const dialog = openDialog(`Pictures of ${label}`, element("div", { class: "burst" }, video, shot, count));
  let stream = null;
  let held = false;
  let taken = 0;
  const done = { added: 0, same: 0, refused: [] };
  const sending = [];
  dialog.addEventListener("close", async () => {
    held = false;
    if (stream) close(stream);
    await Promise.all(sending);
    await refresh();
    if (taken) report(done);
  });
  try {
    stream = await openCamera(video);
  } catch (error) {
    count.textContent = error.message;
    count.className = "notice danger";
    shot.disabled = true;
    return;
  }
  const take = async () => {
    if (held) return;
    held = true;
    do {
      const file = new File([await jpeg(grab(video))], "camera.jpg", { type: "image/jpeg" });
      sending.push(store({ file, label }, done));
      count.textContent = `${++taken} taken`;
      await pause(BURST_MILLISECONDS);
    } while (held);
  };
  const release = () => { held = false; };
  shot.addEventListener("pointerdown", (event) => { shot.setPointerCapture(event.pointerId); take(); });
  shot.addEventListener("pointerup", release);
  shot.addEventListener("pointercancel", release);
  shot.addEventListener("keydown", (event) => { if (event.key === " " || event.key === "Enter") { event.preventDefault(); take(); } });
  shot.addEventListener("keyup", release);
  shot.addEventListener("blur", release);
  shot.focus();
}

// Trying the result

async function startLive() {
  const trial = document.getElementById("trial");
  const video = trial.querySelector("video");
  try {
    live = await openCamera(video);
  } catch (error) {
    toast(error.message, { seconds: 8 });
    return;
  }
  restartLive();
  while (live) {
    const video = document.querySelector("#trial video");
    if (!video) break;
    if (!document.hidden && video.videoWidth) {
      const file = new File([await jpeg(grab(video))], "camera.jpg", { type: "image/jpeg" });
      if (!(await tryPicture(document.querySelector("form.try"), file, null))) break;
    }
    await pause(LIVE_MILLISECONDS);
  }
  stopLive();
}

function restartLive() {
  const video = document.querySelector("#trial video");
  const button = document.querySelector("button.live");
  if (!video || !button) return;
  if (video.srcObject !== live) {
    video.srcObject = live;
    video.play();
  }
  video.hidden = false;
  button.setAttribute("aria-pressed", "true");
  button.textContent = "Stop the camera";
}

function stopLive() {
  if (live) close(live);
  live = null;
  const video = document.querySelector("#trial video");
  const button = document.querySelector("button.live");
  if (video) {
    video.srcObject = null;
    video.hidden = true;
  }
  if (button) {
    button.setAttribute("aria-pressed", "false");
    button.textContent = "Camera";
  }
}

async function tryPicture(trial, file, picture) {
  if (picture && live) stopLive();
  const place = document.querySelector(".tried");
  place.setAttribute("aria-busy", "true");
  if (!place.childElementCount) place.append(element("p", { class: "quiet" }, "Classifying…"));
  const answer = await send(trial.action, form({ file }));
  place.removeAttribute("aria-busy");
  if (answer.status !== 200) {
    place.replaceChildren(element("p", { class: "notice danger" }, message(answer)));
    return false;
  }
  const bars = JSON.parse(answer.text).predictions.slice(0, BARS).map(bar);
  place.replaceChildren(...(picture ? await preview(picture) : []), ...bars);
  return true;
}

function bar({ class: label, probability }, rank) {
  const fill = shape("rect", { class: "fill", width: 100 * probability, height: 1 });
  const track = shape("svg", { viewBox: "0 0 100 1", preserveAspectRatio: "none", "aria-hidden": "true" }, fill);
  return element("div", { class: rank ? "bar" : "bar first" }, track, element("span", {}, label), element("span", { class: "number" }, `${(100 * probability).toFixed(1)}%`));
}

// On a canvas, because the page's policy shows no pictures but the server's own
async function preview(file) {
  try {
    const bitmap = await createImageBitmap(file);
    const scale = Math.min(1, 400 / Math.max(bitmap.width, bitmap.height));
    const canvas = element("canvas", { width: Math.round(bitmap.width * scale), height: Math.round(bitmap.height * scale), role: "img", "aria-label": file.name });
    canvas.getContext("2d").drawImage(bitmap, 0, 0, canvas.width, canvas.height);
    return [canvas];
  } catch {
    return [];
  }
}
