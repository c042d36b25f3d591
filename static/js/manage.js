// The models page: numbers that follow the server, details in a drawer, and registrations with their progress.
// Without this file all of it works, too, by links and forms that load a page.

import { combobox } from "./combobox.js";
import { confirmed, element, parsed, pause, toast } from "./ui.js";

const PERIOD = 2000;
const PROGRESS_PERIOD = 400;

const table = document.getElementById("models");
const problem = document.getElementById("problem");
const working = document.getElementById("working");
let before = null;

if (table) {
  addEventListener("click", openDetails);
  for (const form of document.querySelectorAll("form.register")) form.addEventListener("submit", register);
  setUpDrop(document.querySelector(".register .drop"));
  setUpCatalogue(document.querySelector("form.catalogue"));
  follow();
}

async function follow() {
  for (;;) {
    if (!document.hidden) await look();
    await pause(PERIOD);
  }
}

// Numbers

async function look() {
  let models;
  try {
    models = (await (await fetch(table.dataset.state, { headers: { Accept: "application/json" } })).json()).models;
  } catch {
    return; // the server starts again, or has gone; the next look will tell
  }
  const now = performance.now();
  const rows = new Map([...table.querySelectorAll("[data-model]")].map((row) => [row.dataset.model, row]));
  if (models.length !== rows.size || models.some((model) => !rows.has(model.model))) await reload();
  else for (const model of models) show(rows.get(model.model), model, now);
  before = { now, counts: new Map(models.map((model) => [model.model, model.counts])) };
}

async function reload() {
  const answer = await fetch(table.dataset.address, { headers: { Accept: "application/json", "X-Part": "result" } });
  if (answer.ok) table.replaceChildren(...parsed(await answer.text()));
}

function show(row, model, now) {
  const { requests, errors } = model.counts;
  const say = (fact, text) => { row.querySelector(`[data-fact=${fact}]`).textContent = text; };
  const state = model.state === "ready" && !model.min_workers ? "paused" : model.state;
  say("state", state);
  say("workers", model.workers.length);
  say("errors", `${(requests ? (100 * errors) / requests : 0).toFixed(1)}%`);
  say("p50", milliseconds(model.p50));
  say("p95", milliseconds(model.p95));
  row.querySelector("[data-fact=state]").className = `badge dot ${state === "ready" ? "success" : state === "paused" ? "warning" : "danger"}`;
  row.querySelector("polyline").setAttribute("points", points(model.recent));
  const last = before?.counts.get(model.model);
  if (last && requests >= last.requests) say("rate", rate(((requests - last.requests) * 1000) / (now - before.now)));
}

function milliseconds(seconds) {
  return seconds ? `${(seconds * 1000).toFixed(seconds < 0.01 ? 1 : 0)} ms` : "–";
}

function rate(value) {
  return value && value < 10 ? value.toFixed(1) : Math.round(value).toLocaleString("en");
}

function points(values) {
  const most = Math.max(...values) || 1;
  return values.map((one, place) => `${((100 * place) / (values.length - 1)).toFixed(1)},${(29 - (28 * one) / most).toFixed(1)}`).join(" ");
}

// Details

async function openDetails(event) {
  const link = event.target.closest?.("a.details");
  if (!link || event.ctrlKey || event.metaKey || event.shiftKey) return;
  event.preventDefault();
  const answer = await fetch(link.href, { headers: { Accept: "application/json", "X-Part": "result" } });
  if (!answer.ok) {
    location.href = link.href;
    return;
  }
  const name = link.closest("[data-model]").dataset.model;
  const close = element("button", { type: "button", class: "icon last", "aria-label": "Close" }, "×");
  const drawer = element("dialog", { class: "drawer", "aria-labelledby": "drawer-title" },
    element("div", { class: "head" }, element("h2", { id: "drawer-title" }, name), close), ...parsed(await answer.text()));
  close.addEventListener("click", () => drawer.close());
  drawer.addEventListener("click", (press) => { if (press.target === drawer) drawer.close(); });
  drawer.addEventListener("close", () => { drawer.remove(); findDetails(name)?.focus(); });
  for (const form of drawer.querySelectorAll("form[data-part]")) form.addEventListener("submit", (submit) => change(submit, drawer));
  document.body.append(drawer);
  drawer.showModal();
}

function findDetails(name) {
  return table.querySelector(`[data-model="${CSS.escape(name)}"] a.details`);
}

async function change(event, drawer) {
  event.preventDefault();
  const form = event.target;
  const { confirm, text, says } = form.dataset;
  if (confirm && !(await confirmed(confirm, text, "Unregister"))) return;
  const button = form.querySelector("button");
  button.disabled = true;
  const answer = await fetch(form.action, { method: "POST", body: new FormData(form), headers: { Accept: "application/json", "X-Part": "result" } });
  button.disabled = false;
  if (answer.ok) {
    table.replaceChildren(...parsed(await answer.text()));
    before = null;
    drawer.close();
    toast(says);
    return;
  }
  form.querySelector("[role=alert]")?.remove();
  form.append(element("p", { class: "notice danger", role: "alert" }, (await answer.json()).message));
}

// Registrations

function register(event) {
  event.preventDefault();
  const form = event.target;
  const body = new FormData(form);
  const identity = [...crypto.getRandomValues(new Uint8Array(8))].map((byte) => byte.toString(16).padStart(2, "0")).join("");
  body.set("progress", identity);
  const button = form.querySelector("button.submit");
  button.disabled = true;
  problem.hidden = true;
  working.hidden = false;
  const started = performance.now();
  let sent = body.get("archive") ? 0 : 1;
  let over = false;
  const request = new XMLHttpRequest();
  request.open("POST", form.action);
  request.setRequestHeader("Accept", "application/json");
  request.setRequestHeader("X-Part", "result");
  request.upload.onprogress = (news) => {
    if (!body.get("archive") || !news.lengthComputable) return;
    sent = news.loaded / news.total;
    if (sent < 1) tell(`Uploading ${Math.round(100 * sent)}%`, sent);
  };
  request.onload = () => {
    if (request.status < 400) {
      const known = new Set([...table.querySelectorAll("[data-model]")].map((row) => row.dataset.model));
      table.replaceChildren(...parsed(request.responseText));
      before = null;
      const added = [...table.querySelectorAll("[data-model]")].map((row) => row.dataset.model).filter((name) => !known.has(name));
      toast(added.length ? `${added.join(", ")} is registered` : "Registered");
      form.reset();
    } else {
      problem.textContent = messageOf(request);
      problem.hidden = false;
    }
    finish();
  };
  request.onerror = () => {
    problem.textContent = "The server cannot be reached. Is it running?";
    problem.hidden = false;
    finish();
  };
  const finish = () => { over = true; working.hidden = true; button.disabled = false; button.focus(); };
  request.send(body);
  tell(sent < 1 ? "Uploading" : "Starting");
  watch();

  async function watch() {
    for (;;) {
      await pause(PROGRESS_PERIOD);
      if (over) return;
      if (sent < 1) continue;
      const seconds = Math.round((performance.now() - started) / 1000);
      let news = {};
      try {
        news = await (await fetch(`${table.dataset.address}progress/${identity}`, { headers: { Accept: "application/json" } })).json();
      } catch {
        // the next look will tell
      }
      if (over) return;
      if (news.title && news.total) tell(`${capital(news.title)} ${amount(news)}, ${seconds} s`, news.done / news.total);
      else tell(`${capital(news.title || "Opening and checking the model")}, ${seconds} s`);
    }
  }
}

function capital(text) {
  return text.charAt(0).toUpperCase() + text.slice(1);
}

function amount({ done, total, unit }) {
  return unit === "B" ? `${(done / 1e6).toFixed(1)} of ${(total / 1e6).toFixed(1)} MB` : `${done} of ${total}`;
}

function messageOf(request) {
  try {
    return JSON.parse(request.responseText).message;
  } catch {
    return `The server answered ${request.status}.`;
  }
}

function tell(text, share) {
  working.querySelector("p").textContent = text;
  const bar = working.querySelector("progress");
  if (share === undefined) bar.removeAttribute("value");
  else bar.value = share;
}

function setUpDrop(zone) {
  const input = zone.querySelector("input");
  const carries = (event) => [...(event.dataTransfer?.types ?? [])].includes("Files");
  addEventListener("dragover", (event) => { if (carries(event)) { event.preventDefault(); zone.classList.add("over"); } });
  addEventListener("dragleave", (event) => { if (!event.relatedTarget) zone.classList.remove("over"); });
  addEventListener("drop", (event) => {
    if (!carries(event)) return;
    event.preventDefault();
    zone.classList.remove("over");
    input.files = event.dataTransfer.files;
    input.form.requestSubmit();
  });
}

function setUpCatalogue(form) {
  const chosen = document.getElementById("chosen");
  const field = form.elements.url;
  const load = async () => {
    const models = await (await fetch(form.dataset.catalogue, { headers: { Accept: "application/json" } })).json();
    return models.map((model) => ({ name: model.name, label: model.name, synonyms: facts(model) }));
  };
  combobox(field, load, (item) => { chosen.textContent = `${item.name}: ${item.synonyms}`; });
}

function facts({ megabytes, top1, classes, registered }) {
  return [`${megabytes} MB`, top1 ? `${top1}% top-1` : `${classes} classes`, ...(registered ? ["registered"] : [])].join(" · ");
}
