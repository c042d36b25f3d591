// What can be done with an answer. Without this file all of it works, too, by links and forms that load a page.

import { ask, element, parsed, pictureAt, Refused } from "./ask.js";

const HEAT_SAYS = "The redder a part, the less sure the model is without it.";

export function enliven(article) {
  article.querySelector("a.why")?.addEventListener("click", (event) => { event.preventDefault(); showWhy(article, event.currentTarget); });
  article.querySelector("a.share")?.addEventListener("click", (event) => share(event, event.currentTarget));
  for (const form of article.querySelectorAll("form.correct")) form.addEventListener("submit", (event) => correct(event, article));
  article.querySelector("form.again")?.addEventListener("submit", (event) => again(event, article));
  article.querySelector("form.delete")?.addEventListener("submit", (event) => remove(event, article));
  for (const pre of article.querySelectorAll("pre.curl")) addCopy(pre);
}

async function showWhy(article, link) {
  const figure = article.querySelector("figure.main");
  const shown = figure.querySelector("img.heat");
  const picture = figure.querySelector("svg");
  if (shown) {
    const hide = !shown.hidden;
    shown.hidden = hide;
    figure.querySelector(".heat-says").hidden = hide;
    toggle(picture, hide);
    link.textContent = hide ? "Why?" : "The picture itself";
    return;
  }
  link.textContent = "Looking…";
  link.setAttribute("aria-busy", "true");
  await changing(article, async () => {
    const heat = element("img", { class: "heat", alt: "The picture, coloured where the answer rests on it" });
    heat.src = await pictureAt(`/result/${article.dataset.id}/why`, (seconds) => { link.textContent = `Busy; again in ${seconds} s…`; });
    await heat.decode();
    toggle(picture, false);
    picture.after(heat);
    figure.append(element("figcaption", { class: "heat-says" }, HEAT_SAYS));
    link.textContent = "The picture itself";
    link.after(element("a", { href: link.href }, "Why another answer?"));
  });
  if (!figure.querySelector("img.heat")) link.textContent = "Why?";
  link.removeAttribute("aria-busy");
}

// SVG elements have no `hidden` of their own
function toggle(picture, visible) {
  picture.classList.toggle("away", !visible);
}

async function share(event, link) {
  if (!navigator.clipboard) return; // not a secure page: follow the link, and take the address from there
  event.preventDefault();
  try {
    await navigator.clipboard.writeText(link.href);
    said(link, "Copied");
  } catch {
    location.href = link.href;
  }
}

function addCopy(pre) {
  if (!navigator.clipboard) return;
  const button = element("button", { type: "button", class: "link" }, "Copy");
  button.addEventListener("click", async () => {
    await navigator.clipboard.writeText(pre.textContent);
    said(button, "Copied");
  });
  pre.after(button);
}

function said(where, text) {
  const before = where.textContent;
  if (before === text) return;
  where.textContent = text;
  setTimeout(() => { where.textContent = before; }, 1500);
}

async function correct(event, article) {
  event.preventDefault();
  await changing(article, async () => {
    const next = parsed(await ask(event.target.action, new FormData(event.target)));
    article.replaceWith(next);
    enliven(next);
    next.querySelector("form.correct button").focus();
  });
}

async function again(event, article) {
  event.preventDefault();
  const form = new FormData(event.target);
  form.set("model", event.submitter.value);
  await changing(article, async () => {
    const next = parsed(await ask(event.target.action, form));
    article.before(next);
    enliven(next);
    next.setAttribute("tabindex", "-1");
    next.focus();
  });
}

async function remove(event, article) {
  if (!document.getElementById("try")) return; // on a page of its own, the form leads to the others
  event.preventDefault();
  await changing(article, async () => {
    await ask(event.target.action, new FormData());
    article.replaceWith(element("p", { role: "status", class: "note" }, "Deleted."));
  });
}

async function changing(article, work) {
  article.querySelector(".problem")?.remove();
  try {
    await work();
  } catch (error) {
    if (!(error instanceof Refused)) throw error;
    complain(article, error.message);
  }
}

function complain(article, message) {
  article.querySelector(".problem")?.remove();
  article.querySelector(".says").append(element("p", { role: "alert", class: "problem" }, message));
}

for (const article of document.querySelectorAll("article.result")) enliven(article);
