// Several images: a table with a row each, which is sorted, filtered and downloaded.

import { ask, get, Refused } from "./ask.js";
import { element, overLimit } from "./ui.js";

const AT_ONCE = 3;
const THUMBNAIL = 80;
const STORE = "dimple-images";
const FAILED = "\u0000failed";
const RATE_SECONDS = 5;

export class Table {
  // `open(id, others)` shows one result, `leave()` closes the table, `back()` comes back to it from a result.
  constructor(place, { open, leave, back }) {
    this.place = place;
    this.open = open;
    this.leave = leave;
    this.back = back;
    this.rows = [];
    this.models = [];
    this.order = { key: "place", down: false };
    this.filter = { name: "", unsure: false };
    this.run = 0;
  }

  // Classify files by all of some models
  async classify(files, models, form) {
    this.form = form;
    this.rows = files.map((file, place) => ({ place, name: file.webkitRelativePath || file.name || "image", file, answers: {} }));
    this.order = { key: "place", down: false };
    this.filter = { name: "", unsure: false };
    await this.ask(models);
  }

  // Show the answers of some models, and fetch those that are missing
  async ask(models, form = this.form) {
    this.form = form;
    this.models = models;
    this.build();
    const run = ++this.run;
    const waiting = this.rows.filter((row) => this.missing(row).length && !(row.error && !row.file && !row.id));
    if (!waiting.length) { this.finish(); return; }
    for (const row of waiting) { row.error = ""; this.draw(row); }
    this.started = performance.now();
    this.times = [];
    this.total = waiting.length;
    const timer = setInterval(() => this.report(), 250);
    const work = async () => {
      while (waiting.length && run === this.run) {
        const row = waiting.shift();
        await this.answer(row);
        this.times.push(performance.now());
        if (run === this.run) this.draw(row);
      }
    };
    await Promise.all(Array.from({ length: AT_ONCE }, work));
    clearInterval(timer);
    if (run === this.run) this.finish();
  }

  missing(row) {
    return this.models.filter((model) => !row.answers[model]);
  }

  async answer(row) {
    const models = this.missing(row);
    try {
      const document = row.id ? await get(`/result/${row.id}?with=${models.map(encodeURIComponent).join(",")}`, { part: "row" }) : await this.send(row, models);
      row.id = document.id || row.id;
      row.own ??= document.answers[0].model;
      for (const one of document.answers) row.answers[one.model] = one;
    } catch (error) {
      row.error = error instanceof Refused ? error.message : "It could not be read.";
    }
  }

  async send(row, models) {
    const most = Number(this.form.dataset.maxBytes);
    if (row.file.size > most) throw new Refused(overLimit(row.file.size, most));
    const file = row.file.open ? await row.file.open() : row.file;
    await thumbnail(row, file);
    const body = new FormData();
    body.set("model", models[0]);
    if (models.length > 1) body.set("with", models.slice(1).join(","));
    body.set("file", file, row.name.split("/").pop());
    return JSON.parse(await ask(this.form.action, body, undefined, "row"));
  }

  stop() {
    this.run++;
    for (const row of this.rows) if (this.missing(row).length && !row.error) { row.error = "Not sent."; this.draw(row); }
    this.finish();
  }

  // The frame around the rows

  build() {
    const button = (text, work, attributes = {}) => {
      const made = element("button", { type: "button", ...attributes }, text);
      made.addEventListener("click", work);
      return made;
    };
    this.title = element("h2", {});
    this.progress = element("progress", { max: "1", value: "0", "aria-label": "Images classified" });
    this.says = element("span", { class: "quiet small number", role: "status" });
    this.stopper = button("Stop", () => this.stop());
    this.names = element("select", { "aria-label": "Filter by class" });
    this.names.addEventListener("change", () => { this.filter.name = this.names.value; this.arrange(); });
    this.unsure = element("input", { type: "checkbox" });
    this.unsure.checked = this.filter.unsure;
    this.unsure.addEventListener("change", () => { this.filter.unsure = this.unsure.checked; this.arrange(); });
    this.head = element("tr", {}, ...this.columns().map((column) => this.heading(column)));
    this.body = element("tbody", {});
    const table = element("table", { class: "data", "aria-label": "Images" }, element("thead", {}, this.head), this.body);
    this.place.replaceChildren(element("section", { class: "card many", "aria-label": "Images" },
      element("div", { class: "head" }, this.title, this.progress, this.says, this.stopper,
        element("span", { class: "last" }, this.names,
          element("label", { class: "pill" }, this.unsure, "Not sure"),
          button("CSV", () => this.download("csv"), { title: "Download as CSV" }),
          button("JSON", () => this.download("json"), { title: "Download as JSON" }),
          button("×", this.leave, { class: "icon", "aria-label": "Close the table" }))),
      element("div", { class: "scroll flush", tabindex: "0", role: "region", "aria-label": "Images, scrollable" }, table)));
    this.body.addEventListener("click", (event) => this.clicked(event));
    for (const row of this.rows) {
      row.line = element("tr", {});
      row.thumb ??= element("canvas", { width: THUMBNAIL, height: THUMBNAIL, "aria-hidden": "true" });
      this.fill(row);
    }
    this.arrange();
    this.report();
  }

  columns() {
    const compared = this.models.length > 1;
    const middle = compared ? this.models.map((model) => ({ key: `model:${model}`, title: model })) : [{ key: `model:${this.models[0]}`, title: "Class" }, { key: "probability", title: "Probability", number: true }];
    return [{ key: "name", title: "Image" }, ...middle, ...(compared ? [{ key: "differs", title: "Differs" }] : []), { key: "time", title: "Time", number: true }];
  }

  heading({ key, title, number }) {
    const button = element("button", { type: "button" }, title);
    button.addEventListener("click", () => {
      this.order = { key, down: this.order.key === key ? !this.order.down : key === "differs" };
      this.arrange();
    });
    return element("th", { scope: "col", "data-key": key, ...(number && { class: "number" }) }, button);
  }

  draw(row) {
    this.fill(row);
    this.changed = true;
  }

  fill(row) {
    const { line } = row;
    const name = row.id
      ? element("a", { href: this.address(row) }, row.name)
      : element("span", {}, row.name);
    const first = element("th", { scope: "row" }, element("span", { class: "thumbnail" }, row.thumb, name));
    const span = this.columns().length - 1;
    if (row.error) {
      line.replaceChildren(first, element("td", { colspan: span }, element("span", { class: "badge danger" }, "Failed"), ` ${row.error}`));
    } else if (this.missing(row).length) {
      line.replaceChildren(first, element("td", { colspan: span, class: "quiet" }, "…"));
    } else if (this.models.length > 1) {
      line.replaceChildren(first, ...this.models.map((model) => verdict(row.answers[model], true)), element("td", {}, ...(this.differs(row) ? [element("span", { class: "badge warning" }, "differs")] : [])), time(this.milliseconds(row)));
    } else {
      const answer = row.answers[this.models[0]];
      line.replaceChildren(first, verdict(answer, false), element("td", { class: "number" }, percent(answer.probability)), time(this.milliseconds(row)));
    }
  }

  address(row) {
    const others = this.models.filter((model) => model !== row.own);
    return `/result/${row.id}${others.length ? `?with=${others.map(encodeURIComponent).join(",")}` : ""}`;
  }

  clicked(event) {
    if (event.ctrlKey || event.metaKey || event.shiftKey) return;
    const row = this.rows.find(({ line }) => line.contains(event.target));
    if (!row?.id) return;
    event.preventDefault();
    this.scrolled = this.place.querySelector(".scroll").scrollTop;
    this.open(row.id, this.models.filter((model) => model !== row.own));
  }

  // Numbers of a row

  differs(row) {
    if (this.models.length < 2 || row.error || this.missing(row).length) return false;
    return new Set(this.models.map((model) => row.answers[model].name)).size > 1;
  }

  milliseconds(row) {
    return this.models.reduce((sum, model) => sum + row.answers[model].milliseconds, 0);
  }

  isUnsure(row) {
    return this.models.some((model) => row.answers[model]?.unsure);
  }

  value(row, key) {
    if (key === "place") return row.place;
    if (key === "name") return row.name.toLowerCase();
    if (row.error || this.missing(row).length) return undefined;
    if (key === "probability") return row.answers[this.models[0]].probability ?? -1;
    if (key === "time") return this.milliseconds(row);
    if (key === "differs") return Number(this.differs(row));
    return row.answers[key.slice("model:".length)].name.toLowerCase();
  }

  // Order and filter

  sorted() {
    const { key, down } = this.order;
    const compared = (a, b) => {
      const [one, other] = [this.value(a, key), this.value(b, key)];
      if (one === undefined || other === undefined) return Number(one === undefined) - Number(other === undefined);
      if (one === other) return a.place - b.place;
      return (one < other ? -1 : 1) * (down ? -1 : 1);
    };
    return this.rows.filter((row) => this.fits(row)).sort(compared);
  }

  fits(row) {
    const { name, unsure } = this.filter;
    if (unsure && !this.isUnsure(row)) return false;
    if (name === FAILED) return Boolean(row.error);
    return !name || this.models.some((model) => row.answers[model]?.name === name);
  }

  arrange() {
    this.shown = this.sorted();
    this.body.replaceChildren(...this.shown.map(({ line }) => line));
    for (const cell of this.head.children) {
      const mine = cell.dataset.key === this.order.key;
      cell.setAttribute("aria-sort", mine ? (this.order.down ? "descending" : "ascending") : "none");
    }
    this.report();
  }

  // What has been done so far

  report() {
    const done = this.rows.filter((row) => row.error || !this.missing(row).length).length;
    const running = done < this.rows.length;
    const all = this.rows.length;
    const few = this.shown.length < all ? `${this.shown.length} of ` : "";
    this.title.textContent = running ? `${done} of ${all} images` : `${few}${all} images`;
    this.progress.hidden = this.stopper.hidden = !running;
    this.progress.value = all ? done / all : 1;
    this.says.textContent = running ? this.speed(all - done) : this.summary();
    if (this.changed || !running) this.listNames();
    this.changed = false;
  }

  speed(left) {
    const now = performance.now();
    const recent = this.times?.filter((at) => now - at < RATE_SECONDS * 1000) ?? [];
    const seconds = Math.min(RATE_SECONDS, (now - this.started) / 1000);
    if (recent.length < 2 || seconds < 0.5) return "";
    const rate = recent.length / seconds;
    return `${rate.toFixed(rate < 10 ? 1 : 0)} images/s · ${Math.ceil(left / rate)} s left`;
  }

  summary() {
    const failed = this.rows.filter((row) => row.error).length;
    const different = this.rows.filter((row) => this.differs(row)).length;
    const unsure = this.rows.filter((row) => this.isUnsure(row)).length;
    const parts = [];
    if (this.models.length > 1) parts.push(`${different} ${different === 1 ? "differs" : "differ"}`);
    if (unsure) parts.push(`${unsure} not sure`);
    if (failed) parts.push(`${failed} failed`);
    if (this.times?.length > 1 && this.started) parts.push(`${(this.times.length / ((this.times.at(-1) - this.started) / 1000)).toFixed(1)} images/s`);
    return parts.join(" · ");
  }

  listNames() {
    const counts = new Map();
    for (const row of this.rows) for (const model of this.models) {
      const name = row.answers[model]?.name;
      if (name && !row.error) counts.set(name, (counts.get(name) ?? 0) + 1);
    }
    const failed = this.rows.filter((row) => row.error).length;
    const options = [...counts].sort((a, b) => b[1] - a[1]).map(([name, count]) => element("option", { value: name }, `${name} (${count})`));
    this.names.replaceChildren(element("option", { value: "" }, "All classes"), ...(failed ? [element("option", { value: FAILED }, `Failed (${failed})`)] : []), ...options);
    this.names.value = this.filter.name;
  }

  finish() {
    if (this.models.length > 1 && this.order.key === "place") this.order = { key: "differs", down: true };
    this.arrange();
    this.save();
  }

  // From one result to the next, and back

  ids() {
    return this.shown.filter((row) => row.id).map((row) => row.id);
  }

  pager(id) {
    const ids = this.ids();
    const at = ids.indexOf(id);
    if (at < 0) return null;
    const button = (text, label, next) => {
      const made = element("button", { type: "button", class: "icon", "aria-label": label, disabled: !next }, text);
      made.addEventListener("click", () => this.open(next, this.models.filter((model) => model !== this.rows.find((row) => row.id === next).own)));
      return made;
    };
    const back = element("button", { type: "button" }, `← All ${this.rows.length} images`);
    back.addEventListener("click", this.back);
    return element("nav", { class: "pager actions", "aria-label": "Images" }, back, element("span", { class: "last quiet small number" }, `${at + 1} of ${ids.length}`), button("‹", "Previous image", ids[at - 1]), button("›", "Next image", ids[at + 1]));
  }

  scrollBack() {
    if (this.scrolled) this.place.querySelector(".scroll").scrollTop = this.scrolled;
  }

  remove(id) {
    this.removed = this.rows.find((row) => row.id === id);
    this.rows = this.rows.filter((row) => row !== this.removed);
    this.arrange();
    this.save();
  }

  undoRemoval() {
    if (!this.removed) return;
    this.rows.push(this.removed);
    this.removed = undefined;
    this.arrange();
    this.save();
  }

  close() {
    this.run++;
    this.rows = [];
    this.place.replaceChildren();
    sessionStorage.removeItem(STORE);
  }

  // A reload and the browser's "back" keep the table; the files themselves are the server's by then

  save() {
    const rows = this.rows.map(({ place, name, id, own, error, answers }) => ({ place, name, id, own, error, answers }));
    try {
      sessionStorage.setItem(STORE, JSON.stringify({ models: this.models, rows }));
    } catch {
      sessionStorage.removeItem(STORE); // too many for the browser's memory
    }
  }

  restore(form) {
    const saved = JSON.parse(sessionStorage.getItem(STORE) ?? "null");
    if (!saved?.rows.length) return false;
    this.form = form;
    this.models = saved.models;
    this.rows = saved.rows.map((row) => ({ ...row, thumb: row.id && !row.error ? element("img", { src: `/result/${row.id}/picture?small=1`, alt: "", width: 40, height: 40, loading: "lazy" }) : undefined }));
    this.build();
    this.finish();
    return true;
  }

  download(kind) {
    const rows = this.shown;
    const text = kind === "csv" ? this.csv(rows) : JSON.stringify(rows.map((row) => (row.error ? { image: row.name, error: row.error } : { image: row.name, answers: this.models.map((model) => row.answers[model]?.answer) })), null, 2);
    const link = element("a", { download: `images.${kind}`, href: URL.createObjectURL(new Blob([text], { type: kind === "csv" ? "text/csv" : "application/json" })) });
    link.click();
    setTimeout(() => URL.revokeObjectURL(link.href), 10000);
  }

  csv(rows) {
    const lines = [["image", "model", "class", "probability", "not_sure", "milliseconds", "error"]];
    for (const row of rows) {
      if (row.error) { lines.push([row.name, "", "", "", "", "", row.error]); continue; }
      for (const model of this.models) {
        const answer = row.answers[model];
        if (answer) lines.push([row.name, model, answer.probability === null ? answer.name : answer.class, answer.probability ?? "", answer.unsure, answer.milliseconds, ""]);
      }
    }
    return lines.map((line) => line.map(quoted).join(",") + "\r\n").join("");
  }
}

// RFC 4180; a text that a spreadsheet would take for a formula gets an apostrophe
function quoted(value) {
  let text = String(value);
  if (typeof value === "string" && /^[=+\-@\t\r]/.test(text)) text = `'${text}`;
  return /[",\r\n]/.test(text) ? `"${text.replaceAll('"', '""')}"` : text;
}

function percent(probability) {
  if (probability === null) return "";
  const text = (probability * 100).toFixed(1);
  return `${text === "100.0" && probability < 1 ? "99.9" : text}%`;
}

function verdict(answer, compared) {
  const cell = element("td", {}, answer.name);
  if (compared && answer.probability !== null) cell.append(" ", element("span", { class: "number quiet" }, percent(answer.probability)));
  if (answer.unsure) cell.append(" ", element("span", { class: "badge warning" }, "Not sure"));
  return cell;
}

function time(milliseconds) {
  return element("td", { class: "number" }, `${Math.round(milliseconds)} ms`);
}

// Drawn small while the file is at hand; decoding happens off the page's thread
async function thumbnail(row, file) {
  try {
    const bitmap = await createImageBitmap(file, { resizeWidth: 2 * THUMBNAIL, resizeQuality: "medium" });
    const side = Math.min(bitmap.width, bitmap.height);
    row.thumb.getContext("2d").drawImage(bitmap, (bitmap.width - side) / 2, (bitmap.height - side) / 2, side, side, 0, 0, THUMBNAIL, THUMBNAIL);
    bitmap.close();
  } catch {
    // a TIFF, or no image at all: the server will say
  }
}
