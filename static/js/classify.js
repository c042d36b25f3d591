// The workbench: choose, drop, paste or photograph an image, and its answer appears beside it.

import { ask, get, Refused } from "./ask.js";
import { listen } from "./keys.js";
import { carriesFiles, element, overLimit, parsed } from "./ui.js";

const PREVIEW_SIDE = 800;
const CHOICE = "dimple-model";
const TABLE = "#images";

const workbench = document.getElementById("workbench");
const form = document.getElementById("try");
const stage = document.getElementById("stage");
const answers = document.getElementById("answers");
const placeholder = answers?.querySelector(".placeholder");
const invitation = stage?.querySelector(".invitation");
const tablePlace = document.getElementById("table");
const status = document.getElementById("status");
const pills = document.getElementById("models");
const compareButton = document.getElementById("compare");
const radios = () => [...pills.querySelectorAll("input[name=model]")];
let last = null; // what was sent last, to ask another model about it
let turn = 0; // counts what is shown, so that a late answer does not replace a newer one
let many = null; // the module with the table, once there are several images

function begin() {
  for (const id of ["file", "photo", "folder"]) {
    const input = document.getElementById(id);
    input.addEventListener("change", () => { take([...input.files]); input.value = ""; });
  }
  for (const button of form.querySelectorAll("button.sample")) {
    button.addEventListener("click", (event) => { event.preventDefault(); sample(button); });
  }
  addEventListener("paste", (event) => takeEvent(event, event.clipboardData));
  addEventListener("dragover", (event) => { if (carriesFiles(event)) { event.preventDefault(); stage.classList.add("over"); } });
  addEventListener("dragleave", (event) => { if (!event.relatedTarget) stage.classList.remove("over"); });
  addEventListener("drop", (event) => { stage.classList.remove("over"); takeEvent(event, event.dataTransfer); });
  form.addEventListener("submit", (event) => event.preventDefault());
  stage.addEventListener("click", (event) => { if (event.target.closest(".clear")) { event.preventDefault(); empty(); } });
  pills.addEventListener("change", changeModel);
  compareButton?.addEventListener("click", () => compare(compareButton.getAttribute("aria-pressed") !== "true"));
  document.getElementById("model-search")?.addEventListener("input", (event) => search(event.target.value));
  addEventListener("popstate", () => restore());
  listen({ model: (number) => visiblePills()[number]?.querySelector("input").click(), step });
  if (current()) {
    enliven(stage.querySelector("figure"), current());
    const others = [...current().querySelectorAll(".verdict")].map((one) => one.dataset.model);
    if (others.length > 1) compare(true, others);
  } else {
    select(localStorage.getItem(CHOICE));
    if (location.hash === TABLE) restore();
  }
  search("");
}

// Models

function chosen() {
  return radios().filter((input) => input.checked).map((input) => input.value);
}

function select(name) {
  const input = radios().find((one) => one.value === name);
  if (!input) return;
  if (input.type === "radio" || chosen().length < 2) for (const one of radios()) one.checked = one === input;
  remember();
}

function remember() {
  const input = radios().find((one) => one.checked);
  if (!input) return;
  document.getElementById("about").textContent = input.closest(".pill").dataset.about;
  if (input.type === "radio") localStorage.setItem(CHOICE, input.value);
  input.closest(".pill").scrollIntoView({ block: "nearest", inline: "nearest" });
}

function visiblePills() {
  return [...pills.querySelectorAll(".pill")].filter((pill) => !pill.hidden);
}

const FEW = 6;

// Beyond six models only the first six are shown, the chosen one, and those that are searched for
function search(text) {
  const words = text.toLowerCase().split(/\s+/).filter(Boolean);
  const all = [...pills.querySelectorAll(".pill")];
  all.forEach((pill, place) => {
    const about = `${pill.textContent} ${pill.dataset.about}`.toLowerCase();
    const found = words.length ? words.every((word) => about.includes(word)) : place < FEW || all.length <= FEW;
    pill.hidden = !found && !pill.querySelector("input").checked;
  });
}

async function changeModel(event) {
  if (event.target.name !== "model") return;
  if (!chosen().length) event.target.checked = true; // at least one is asked
  remember();
  if (workbench.dataset.state === "table") { await many.ask(chosen(), form); return; }
  const article = current();
  if (!article) return;
  const names = chosen();
  if (article.dataset.id && names.includes(article.dataset.model)) {
    await show(() => get(addressOf(article.dataset.id, names.filter((name) => name !== article.dataset.model)), { part: "result" }));
  } else if (article.dataset.id) {
    await classify({ ...last, name: article.dataset.name, fields: { again: article.dataset.id } }, true);
  } else if (last) {
    await classify(last, true);
  }
}

// With comparison on, the pills are check boxes, and all that are checked are asked
function compare(on, names = chosen().slice(0, 1)) {
  compareButton?.setAttribute("aria-pressed", String(on));
  for (const input of radios()) input.type = on ? "checkbox" : "radio";
  for (const input of radios()) input.checked = names.includes(input.value);
  const article = current();
  const compared = article?.querySelector(".compared") || (workbench.dataset.state === "table" && many.models.length > 1);
  if (!on && compared) changeModel({ target: radios().find((input) => input.checked) });
}

function keepModels(names) {
  if (names.length > 1) compare(true, names);
  else select(names[0]);
}

function addressOf(id, others = []) {
  return `/result/${id}${others.length ? `?with=${others.map(encodeURIComponent).join(",")}` : ""}`;
}

// Images

function takeEvent(event, data) {
  const files = [...(data?.files ?? [])];
  const entries = [...(data?.items ?? [])].map((item) => item.webkitGetAsEntry?.()).filter(Boolean);
  if (!files.length && !entries.length) return;
  event.preventDefault();
  take(files, entries.some((entry) => entry.isDirectory) ? entries : []);
}

async function take(files, entries = []) {
  const packed = entries.length || files.length > 1 || files.some((file) => /\.zip$/i.test(file.name));
  if (packed) {
    const { unpacked } = await import("./files.js");
    const mine = ++turn;
    waiting({ name: "" }, "Reading the files…");
    try {
      files = await unpacked(files, entries);
    } catch (error) {
      if (mine === turn) complain({ name: "" }, error);
      return;
    }
    if (mine !== turn) return;
    if (!files.length) { complain({ name: "" }, new Refused("There are no images among these files.")); return; }
  }
  if (files.length > 1) await tabulate(files);
  else if (files.length) await classify({ name: files[0].name || "pasted image", picture: files[0], fields: { file: files[0] } });
}

function sample(button) {
  select(button.dataset.model);
  classify({ name: button.title, picture: button.querySelector("img"), fields: { sample: button.value } });
}

// Loaded with the first answer, so that the first view is light
async function enliven(figure, article) {
  (await import("./answer.js")).enliven(figure, article, actions);
}

function current() {
  return answers.querySelector("article.answer");
}

// Ask the chosen models about one image, and show it meanwhile
async function classify(one, keepPicture = false) {
  last = one;
  const [model, ...others] = one.fields.sample ? orderedFor(one) : chosen();
  const most = Number(form.dataset.maxBytes);
  await show((tell) => {
    if (one.fields.file && one.fields.file.size > most) throw new Refused(`${overLimit(one.fields.file.size, most)} Choose a smaller file.`);
    const body = new FormData();
    body.set("model", model);
    if (others.length) body.set("with", others.join(","));
    for (const [key, value] of Object.entries(one.fields)) body.set(key, value);
    return ask(form.action, body, tell);
  }, one, keepPicture);
}

// A sample is always answered by the model that it suits, and then by the others
function orderedFor(one) {
  const own = form.querySelector(`button.sample[value="${one.fields.sample}"]`).dataset.model;
  return [own, ...chosen().filter((name) => name !== own)];
}

// Show what `work(tell)` resolves to, the server's markup of a result; its progress before, its error in its place.
async function show(work, one = last ?? { name: "" }, keepPicture = true) {
  const mine = ++turn;
  const tell = waiting(one, "Waiting…", keepPicture);
  try {
    const nodes = parsed(await work((news) => { if (mine === turn) tell(news); }));
    if (mine === turn) place(nodes, true);
  } catch (error) {
    if (mine === turn) complain(one, error);
    if (!(error instanceof Refused)) throw error;
  }
}

function state(name) {
  workbench.dataset.state = name;
  invitation.hidden = placeholder.hidden = name !== "empty";
  tablePlace.hidden = name !== "table";
  if (name !== "result") document.querySelector(".pager")?.remove();
}

function clearAnswer() {
  for (const article of answers.querySelectorAll("article")) article.remove();
}

function clearPicture() {
  for (const child of stage.querySelectorAll("figure, canvas")) child.remove();
}

// Show an image that is on its way, and load what its answer will need. Returns a function that takes the news of `ask`.
function waiting(one, text, keepPicture = false) {
  import("./answer.js");
  state("result");
  clearAnswer();
  if (!keepPicture) {
    clearPicture();
    if (one.picture) preview(one.picture);
  }
  const says = element("p", { class: "quiet" }, text);
  const progress = element("progress", { max: "1", value: "0", "aria-label": `Progress of ${one.name || "the image"}` });
  answers.prepend(element("article", { class: "answer card coming" },
    element("div", { class: "stack tight" }, element("h2", {}, one.name || "Image"), says, progress, ...Array.from({ length: 3 }, () => element("div", { class: "ghost" })))));
  reveal();
  return (news) => {
    if (news.busy) { says.textContent = `Waiting: the model is busy; trying again in ${news.busy} s.`; return; }
    if (news.sent < 1) { says.textContent = `Uploading ${Math.round(news.sent * 100)}%`; progress.value = news.sent; return; }
    says.textContent = "Classifying…"; // nobody knows how long the model takes
    progress.removeAttribute("value");
  };
}

function place([figure, article], push, fresh = true) {
  state("result");
  clearAnswer();
  clearPicture();
  stage.prepend(figure);
  answers.prepend(article);
  if (fresh) enliven(figure, article);
  if (article.dataset.id) {
    const others = [...article.querySelectorAll(".verdict")].slice(1).map((one) => one.dataset.model);
    const address = addressOf(article.dataset.id, others);
    if (push && location.pathname + location.search !== address) history.pushState(null, "", address);
  }
  document.title = `${article.dataset.title} · Dimple`;
  status.textContent = `${article.dataset.name || "Image"}: ${article.querySelector("h2").textContent.trim()}`;
  if (push) { article.focus({ preventScroll: true }); reveal(); }
  showPager(article.dataset.id);
}

// With several images, the way to the next one and back to the table
function showPager(id) {
  document.querySelector(".pager")?.remove();
  const pager = many?.rows.length ? many.pager(id) : null;
  if (pager) document.getElementById("about").before(pager);
}

// On a phone the image and its answer are below the models: bring both into view
function reveal() {
  const bottom = answers.getBoundingClientRect().top + 240;
  if (bottom > innerHeight || stage.getBoundingClientRect().top < 0) {
    stage.scrollIntoView({ block: "start", behavior: matchMedia("(prefers-reduced-motion: reduce)").matches ? "auto" : "smooth" });
  }
}

function complain(one, error) {
  state("result");
  clearAnswer();
  const again = element("button", { type: "button" }, "Try again");
  again.addEventListener("click", () => classify(one, true));
  const known = error instanceof Refused;
  const body = element("div", { class: "stack" },
    element("h2", {}, one.name || "Images"),
    element("p", { role: "alert", class: "notice danger" }, known ? error.message : "Something went wrong. Try again."),
    element("div", { class: "actions" }, ...(one.fields && (!known || error.passes) ? [again] : [])));
  const article = element("article", { class: "answer card", tabindex: "-1" }, body);
  answers.prepend(article);
  article.focus({ preventScroll: true });
  if (!stage.querySelector("figure, canvas")) invitation.hidden = false;
  reveal();
}

function empty(push = true) {
  turn++;
  last = null;
  clearAnswer();
  clearPicture();
  many?.close();
  state("empty");
  document.title = "Dimple";
  if (push) history.pushState(null, "", "/");
}

// What an answer's buttons do to the page
const actions = {
  replace: (nodes) => place(nodes, false),
  removed: (id) => {
    many?.remove(id);
    if (many?.rows.length) tableAgain();
    else { empty(false); history.replaceState(null, "", "/"); }
  },
  restored: (figure, article) => { many?.undoRemoval(); place([figure, article], true, false); },
};

// On a canvas, because the page's policy shows no images but the server's own
async function preview(picture) {
  const canvas = element("canvas", { "aria-hidden": "true" });
  const mine = turn;
  try {
    const bitmap = await createImageBitmap(picture);
    const scale = Math.min(1, PREVIEW_SIDE / Math.max(bitmap.width, bitmap.height));
    canvas.width = Math.max(1, bitmap.width * scale);
    canvas.height = Math.max(1, bitmap.height * scale);
    canvas.getContext("2d").drawImage(bitmap, 0, 0, canvas.width, canvas.height);
    bitmap.close();
    if (mine === turn && !stage.querySelector("figure, canvas")) stage.prepend(canvas);
  } catch {
    // a TIFF, or no image at all: the server will say
  }
}

// Several images

async function loadTable() {
  many ??= await import("./many.js").then(({ Table }) => new Table(tablePlace, {
    open: (id, others) => show(() => get(addressOf(id, others), { part: "result" }), { name: "" }, false),
    leave: () => empty(),
    back: () => { history.pushState(null, "", `/${TABLE}`); tableAgain(); },
  }));
  return many;
}

async function tabulate(files) {
  turn++;
  clearAnswer();
  clearPicture();
  const table = await loadTable();
  if (location.hash !== TABLE) history.pushState(null, "", `/${TABLE}`);
  state("table");
  document.title = `${files.length} images · Dimple`;
  await table.classify(files, chosen(), form);
}

function tableAgain() {
  state("table");
  clearAnswer();
  clearPicture();
  if (location.hash !== TABLE) history.replaceState(null, "", `/${TABLE}`);
  document.title = `${many.rows.length} images · Dimple`;
  many.scrollBack();
}

// The address has changed by the browser's own buttons
async function restore() {
  const found = location.pathname.match(/^\/result\/([0-9a-f]{32})$/);
  if (found) {
    const mine = ++turn;
    try {
      const nodes = parsed(await get(location.pathname + location.search, { part: "result" }));
      if (mine === turn) { place(nodes, false); if (radios()[0]?.type === "radio") select(nodes[1].dataset.model); }
    } catch (error) {
      if (mine === turn) complain({ name: "" }, error);
    }
  } else if (location.hash === TABLE) {
    turn++;
    const table = await loadTable();
    if (table.rows.length || table.restore(form)) { keepModels(table.models); tableAgain(); }
    else { history.replaceState(null, "", "/"); empty(false); }
  } else {
    empty(false);
  }
}

// ← and →: the images of the table, or else those that this browser sent before
async function step(by) {
  const id = current()?.dataset.id;
  if (!id) return;
  const ids = many?.rows.length ? many.ids() : (await get("/recent")).map((one) => one.id);
  const next = ids[ids.indexOf(id) + by];
  if (next) await show(() => get(addressOf(next), { part: "result" }), { name: "" }, false);
}

if (form) begin();
