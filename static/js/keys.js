// Keys for what is done often. They work while nothing is being filled in.

import { element, openDialog } from "./ui.js";

const HELP = [
  ["1 – 9", "Choose a model"],
  ["← →", "Previous and next image"],
  ["H", "Heat map on or off"],
  ["C", "Copy the link of the result"],
  ["Delete", "Delete the image"],
  ["?", "This list"],
];

// `model(place)` chooses a model, from 0; `step(-1 | 1)` shows another image.
export function listen({ model, step }) {
  document.getElementById("help")?.addEventListener("click", help);
  addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey || event.defaultPrevented) return;
    if (document.querySelector("dialog[open]") || event.target.closest?.("input:not([type=radio], [type=checkbox], [type=file]), select, textarea, pre, [role=listbox]")) return;
    const radio = event.target.closest?.("input[type=radio]");
    if (/^[1-9]$/.test(event.key)) model(Number(event.key) - 1);
    else if ((event.key === "ArrowLeft" || event.key === "ArrowRight") && !radio) step(event.key === "ArrowRight" ? 1 : -1);
    else if (event.key === "h" || event.key === "H") press(".heat-toggle");
    else if (event.key === "c" || event.key === "C") press(".share");
    else if (event.key === "Delete") press(".delete button");
    else if (event.key === "?") help();
    else return;
    event.preventDefault();
  });
}

function press(selector) {
  document.querySelector(`#answers ${selector}`)?.click();
}

function help() {
  openDialog("Keyboard shortcuts", element("div", { class: "shortcuts" },
    ...HELP.flatMap(([key, does]) => [element("span", {}, element("kbd", {}, key)), element("span", {}, does)])));
}
