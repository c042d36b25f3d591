// A text field that searches a list of names: https://www.w3.org/WAI/ARIA/apg/patterns/combobox/

import { element } from "./ui.js";

const MOST = 60; // names in the list at once
let count = 0;

// `load` resolves to [{name, label, synonyms}]; `choose(item)` is called with the one that is taken.
export function combobox(input, load, choose = () => {}) {
  if (input.getAttribute("role") === "combobox") return;
  const id = `options-${++count}`;
  const list = element("ul", { id, role: "listbox", "aria-label": "Classes", hidden: true });
  input.removeAttribute("list");
  for (const [name, value] of [["role", "combobox"], ["aria-controls", id], ["aria-expanded", "false"], ["aria-autocomplete", "list"]]) input.setAttribute(name, value);
  const box = element("span", { class: "combobox" });
  const typing = document.activeElement === input; // somebody was faster than this script
  input.replaceWith(box);
  box.append(input, list);
  let items = [];
  let place = -1;

  const ready = Promise.resolve(load()).then((loaded) => { items = loaded; });

  const close = () => { list.hidden = true; input.setAttribute("aria-expanded", "false"); input.removeAttribute("aria-activedescendant"); place = -1; };

  const fill = async () => {
    await ready;
    const found = matching(items, input.value);
    list.replaceChildren(...found.map((item, index) => {
      const option = element("li", { role: "option", id: `${id}-${index}`, "aria-selected": "false" }, item.name, ...(item.synonyms ? [" ", element("small", {}, item.synonyms)] : []));
      option.addEventListener("pointerdown", (event) => { event.preventDefault(); take(item); });
      return option;
    }));
    list.hidden = !found.length;
    input.setAttribute("aria-expanded", String(!list.hidden));
    place = -1;
  };

  const take = (item) => { input.value = item.name; close(); choose(item); };

  const mark = (next) => {
    const options = [...list.children];
    place = (next + options.length) % options.length;
    options.forEach((option, index) => option.setAttribute("aria-selected", String(index === place)));
    options[place].scrollIntoView({ block: "nearest" });
    input.setAttribute("aria-activedescendant", options[place].id);
  };

  input.addEventListener("input", fill);
  input.addEventListener("focus", () => { input.select(); fill(); });
  input.addEventListener("blur", close);
  input.addEventListener("keydown", (event) => {
    if (event.key === "Escape" && !list.hidden) { event.preventDefault(); close(); return; }
    if (list.hidden || !list.children.length) return;
    if (event.key === "ArrowDown" || event.key === "ArrowUp") { event.preventDefault(); mark(place < 0 && event.key === "ArrowUp" ? list.children.length - 1 : place + (event.key === "ArrowDown" ? 1 : -1)); }
    if (event.key === "Enter" && place >= 0) { event.preventDefault(); take(matching(items, input.value)[place]); }
  });
  if (typing) {
    input.focus();
    input.setSelectionRange(input.value.length, input.value.length);
  }
}

// Names that begin with the text come first, then those with it anywhere, synonyms included
function matching(items, text) {
  const sought = text.trim().toLowerCase();
  const rank = ({ name, synonyms = "" }) => {
    const lower = name.toLowerCase();
    if (lower.startsWith(sought)) return 0;
    if (lower.includes(sought)) return 1;
    return synonyms.toLowerCase().includes(sought) ? 2 : 3;
  };
  return items.map((item) => [rank(item), item]).filter(([one]) => one < 3).sort(([a], [b]) => a - b).slice(0, MOST).map(([, item]) => item);
}
