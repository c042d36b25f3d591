// What can be done with an answer. Without scripts all of it works, too, by links and forms that load a page.

import { ask, get, Refused } from "./ask.js";
import { deleteLater } from "./delete.js";
import { copy, element, parsed } from "./ui.js";

// `page` has {replace(nodes), removed(), restored(figure, article)}: what changes around the answer.
export function enliven(figure, article, page) {
  const on = (selector, kind, work) => { for (const one of article.querySelectorAll(selector)) one.addEventListener(kind, work); };
  on("a.share", "click", (event) => { event.preventDefault(); copy(event.currentTarget.href, "Link"); });
  on(".correct form", "submit", (event) => { event.preventDefault(); correct(event.currentTarget, article, page); });
  on("form.delete", "submit", (event) => { event.preventDefault(); remove(event.currentTarget, figure, article, page); });
  on(".correct", "toggle", () => searchable(article));
  on(".faces a[href]", "click", async (event) => { event.preventDefault(); await heat(figure, article, event.currentTarget.dataset.face); });
  const toggle = article.querySelector("a.heat-toggle");
  if (toggle) {
    toggle.setAttribute("role", "button");
    toggle.setAttribute("aria-pressed", "false");
    toggle.addEventListener("click", (event) => { event.preventDefault(); heat(figure, article); });
    toggle.addEventListener("keydown", (event) => { if (event.key === " ") { event.preventDefault(); toggle.click(); } });
  }
  linkFaces(figure, article);
  tabs(article);
}

async function heat(figure, article, face) {
  const { toggleHeat } = await import("./heat.js");
  await toggleHeat(figure, article, face);
}

// A row and its frame show each other
function linkFaces(figure, article) {
  for (const row of article.querySelectorAll(".faces .bar")) {
    const frame = figure.querySelector(`.face[data-face="${row.dataset.face}"]`);
    if (!frame) continue;
    const mark = (yes) => { for (const one of [row, frame]) one.classList.toggle("linked", yes); };
    for (const one of [row, frame]) {
      one.addEventListener("pointerenter", () => { mark(true); if (one === frame) row.scrollIntoView({ block: "nearest" }); });
      one.addEventListener("pointerleave", () => mark(false));
    }
    row.addEventListener("focus", () => mark(true));
    row.addEventListener("blur", () => mark(false));
    frame.addEventListener("click", () => row.click());
  }
}

// The programs of "Use it from code" one at a time, each with a button to copy it
function tabs(article) {
  const samples = [...article.querySelectorAll(".sample-code")];
  if (!samples.length) return;
  const list = element("div", { class: "tabs", role: "tablist", "aria-label": "Language" });
  const show = (chosen, focus = false) => samples.forEach((sample, place) => {
    const tab = list.children[place];
    sample.hidden = sample !== chosen;
    tab.setAttribute("aria-selected", String(sample === chosen));
    tab.tabIndex = sample === chosen ? 0 : -1;
    if (focus && sample === chosen) tab.focus();
  });
  samples.forEach((sample, place) => {
    const pre = sample.querySelector("pre");
    sample.id = `code-${place}`;
    sample.setAttribute("role", "tabpanel");
    sample.setAttribute("aria-label", sample.dataset.language);
    sample.querySelector("h3").hidden = true;
    const tab = element("button", { type: "button", role: "tab", "aria-controls": sample.id }, sample.dataset.language);
    tab.addEventListener("click", () => show(sample));
    tab.addEventListener("keydown", (event) => {
      const by = { ArrowRight: 1, ArrowLeft: -1 }[event.key];
      if (by) { event.preventDefault(); event.stopPropagation(); show(samples[(place + by + samples.length) % samples.length], true); }
    });
    list.append(tab);
    const button = element("button", { type: "button", class: "copy" }, "Copy");
    button.addEventListener("click", () => copy(pre.textContent, sample.dataset.language));
    sample.append(button);
  });
  samples[0].before(list);
  show(samples[0]);
}

// With many classes, the names to choose from are searched in the page
async function searchable(article) {
  for (const input of article.querySelectorAll(".correct input[list]")) {
    const { combobox } = await import("./combobox.js");
    combobox(input, () => get(`/labels/${encodeURIComponent(article.dataset.model)}`));
  }
}

async function correct(form, article, page) {
  await changing(article, async () => {
    const face = form.dataset.face;
    const nodes = parsed(await ask(form.action, new FormData(form)));
    page.replace(nodes);
    nodes[1].querySelector(`.correct form[data-face="${face}"] button`)?.focus({ preventScroll: true });
  });
}

function remove(form, figure, article, page) {
  deleteLater(article.dataset.id, form.action, { undo: () => page.restored(figure, article) });
  page.removed(article.dataset.id);
}

async function changing(article, work) {
  article.querySelector(".problem")?.remove();
  try {
    await work();
  } catch (error) {
    if (!(error instanceof Refused)) throw error;
    article.querySelector(".more").before(element("p", { role: "alert", class: "notice danger problem" }, error.message));
  }
}
