// The form, made pleasant: choose, drop, paste or photograph, and the answers appear below it.

import { ask, element, parsed, Refused } from "./ask.js";
import { enliven } from "./result.js";

const AT_ONCE = 2;
const PREVIEW_SIDE = 480;

const form = document.getElementById("try");
const drop = document.getElementById("drop");
const answers = document.getElementById("answers");
const status = document.getElementById("status");
const waiting = [];
let working = 0;

if (form) {
  for (const input of form.querySelectorAll("input[type=file]")) {
    input.addEventListener("change", () => { takeAll([...input.files]); input.value = ""; });
  }
  for (const button of form.querySelectorAll("button.sample")) button.addEventListener("click", (event) => sample(event, button));
  addEventListener("paste", (event) => takeEvent(event, event.clipboardData));
  addEventListener("dragover", (event) => { if (carriesFiles(event)) { event.preventDefault(); drop.classList.add("over"); } });
  addEventListener("dragleave", (event) => { if (!event.relatedTarget) drop.classList.remove("over"); });
  addEventListener("drop", (event) => { drop.classList.remove("over"); takeEvent(event, event.dataTransfer); });
  form.addEventListener("submit", (event) => { if (!event.submitter?.name) event.preventDefault(); });
}

function carriesFiles(event) {
  return [...(event.dataTransfer?.types ?? [])].includes("Files");
}

function takeEvent(event, data) {
  const files = [...(data?.files ?? [])];
  if (!files.length) return;
  event.preventDefault();
  takeAll(files);
}

async function sample(event, button) {
  event.preventDefault();
  take({ name: button.title, picture: button.querySelector("img"), fields: { sample: button.value } });
}

function takeAll(files) {
  for (const file of files.slice(0, Number(form.dataset.maxFiles)).reverse()) take({ name: file.name || "pasted picture", picture: file, fields: { file } });
  const left = files.length - Number(form.dataset.maxFiles);
  if (left > 0) answers.prepend(element("p", { role: "alert", class: "problem" }, `At most ${form.dataset.maxFiles} pictures at once: ${left} were left out.`));
}

function take(one) {
  const model = new FormData(form).get("model");
  const card = element("article", { class: "coming" });
  const canvas = element("canvas", { "aria-hidden": "true", width: "1", height: "1" });
  const progress = element("progress", { max: "1", value: "0", "aria-label": `${one.name} is sent` });
  const says = element("p", { class: "quiet" }, one.name);
  card.append(canvas, element("div", {}, says, progress));
  answers.prepend(card);
  preview(one.picture, canvas);
  waiting.push(() => classify(one, model, card, progress, says));
  work();
}

function work() {
  while (working < AT_ONCE && waiting.length) {
    working++;
    waiting.shift()().finally(() => { working--; work(); });
  }
}

async function classify(one, model, card, progress, says) {
  const most = Number(form.dataset.maxBytes);
  try {
    if (one.fields.file && one.fields.file.size > most) throw new Refused(tooLarge(one.fields.file.size, most));
    const body = new FormData();
    body.set("model", model);
    for (const [key, value] of Object.entries(one.fields)) body.set(key, value);
    const article = parsed(await ask(form.action, body, (news) => tell(news, progress, says, one.name)));
    card.replaceWith(article);
    enliven(article);
    status.textContent = `${one.name}: ${article.querySelector("h2").textContent.trim()}`;
  } catch (error) {
    progress.remove();
    says.replaceChildren(element("strong", {}, one.name), ": ", error instanceof Refused ? error.message : "That did not work. Try again.");
    says.className = "problem";
    says.setAttribute("role", "alert");
    const retry = element("button", { type: "button", class: "link" }, "Try again");
    retry.addEventListener("click", () => { card.remove(); take(one); });
    says.after(retry);
    if (!(error instanceof Refused)) throw error;
  }
}

function tell(news, progress, says, name) {
  if (news.busy) {
    says.textContent = `${name}: the model is busy; trying again in ${news.busy} s.`;
    return;
  }
  says.textContent = name;
  // once everything is sent, nobody knows how long the model takes
  if (news.sent < 1) progress.value = news.sent;
  else progress.removeAttribute("value");
}

function tooLarge(size, most) {
  const told = (bytes) => `${(bytes / 2 ** 20).toFixed(1)} MB`;
  return `The file has ${told(size)}; at most ${told(most)} are allowed. Make it smaller, or take another.`;
}

// On a canvas, because the page's policy shows no pictures but the server's own
async function preview(picture, canvas) {
  try {
    const bitmap = await createImageBitmap(picture);
    const scale = Math.min(1, PREVIEW_SIDE / Math.max(bitmap.width, bitmap.height));
    canvas.width = Math.max(1, bitmap.width * scale);
    canvas.height = Math.max(1, bitmap.height * scale);
    canvas.getContext("2d").drawImage(bitmap, 0, 0, canvas.width, canvas.height);
  } catch {
    canvas.remove(); // a TIFF, or no picture at all: the server will say
  }
}
