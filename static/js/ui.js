// Small parts of the pages: elements, toasts, copying, and questions in a dialog.

const TOAST_SECONDS = 4;

// <name attribute="value">children</name>; a child that is a string is text, never markup.
export function element(name, attributes = {}, ...children) {
  const made = document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) {
    if (value === true) made.setAttribute(key, "");
    else if (value !== false && value !== null && value !== undefined) made.setAttribute(key, value);
  }
  made.append(...children);
  return made;
}

const SVG = "http://www.w3.org/2000/svg";

export function shape(name, attributes = {}, ...children) {
  const made = document.createElementNS(SVG, name);
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  made.append(...children);
  return made;
}

export function pause(milliseconds) {
  return new Promise((resolve) => setTimeout(resolve, milliseconds));
}

export function carriesFiles(event) {
  return [...(event.dataTransfer?.types ?? [])].includes("Files");
}

// A sentence on a file of `size` bytes, of which at most `most` are taken.
export function overLimit(size, most) {
  const megabytes = (bytes) => `${Number((bytes / 2 ** 20).toPrecision(3))} MB`;
  return `${megabytes(size)} is over the ${megabytes(most)} limit.`;
}

// The server's own markup as elements. Scripts inside would not run: DOMParser makes them inert.
export function parsed(markup) {
  return [...new DOMParser().parseFromString(markup, "text/html").body.children];
}

// Show a sentence for some seconds, with a button if `action` is given: {label, run}. Returns a function that removes it.
export function toast(text, { action, seconds = TOAST_SECONDS, ended = () => {} } = {}) {
  const box = element("div", { class: "toast", role: "status" }, element("span", {}, text));
  const close = () => { clearTimeout(timer); box.remove(); };
  const timer = setTimeout(() => { close(); ended(); }, seconds * 1000);
  if (action) {
    const button = element("button", { type: "button", class: "plain" }, action.label);
    button.addEventListener("click", () => { close(); action.run(); });
    box.append(button);
  }
  shelf().append(box);
  return close;
}

function shelf() {
  const there = document.querySelector(".toasts");
  if (there) return there;
  const made = element("div", { class: "toasts" });
  document.body.append(made);
  return made;
}

// Copy a text, and say so. Without a clipboard (plain HTTP from another machine) the text is shown, selected.
export async function copy(text, what) {
  try {
    await navigator.clipboard.writeText(text);
    toast(`${what} copied`);
  } catch {
    const field = element("input", { type: "text", readonly: true, value: text, "aria-label": what });
    openDialog(what, field);
    field.select();
  }
}

// A modal dialog with a title, its content, and buttons at the end: {label, class, run}. Escape and × close it.
export function openDialog(title, content, buttons = []) {
  const close = element("button", { type: "button", class: "icon last", "aria-label": "Close" }, "×");
  const id = `dialog-${title.toLowerCase().replace(/\W+/g, "-")}`;
  const dialog = element("dialog", { "aria-labelledby": id },
    element("div", { class: "head" }, element("h2", { id }, title), close),
    element("div", { class: "stack" }, content));
  close.addEventListener("click", () => dialog.close());
  if (buttons.length) {
    const row = element("div", { class: "actions" });
    for (const { label, class: kind = "", run } of buttons) {
      const button = element("button", { type: "button", class: kind }, label);
      button.addEventListener("click", () => { dialog.close(); run(); });
      row.append(button);
    }
    dialog.append(row);
  }
  dialog.addEventListener("close", () => dialog.remove());
  dialog.addEventListener("click", (event) => { if (event.target === dialog) dialog.close(); });
  document.body.append(dialog);
  dialog.showModal();
  return dialog;
}

// Ask a question whose answer is a click: resolves to true if `label` was chosen.
export function confirmed(question, text, label, kind = "primary danger") {
  return new Promise((resolve) => {
    const dialog = openDialog(question, element("p", {}, text), [
      { label, class: kind, run: () => resolve(true) },
      { label: "Cancel", run: () => resolve(false) },
    ]);
    dialog.addEventListener("close", () => resolve(false));
  });
}
