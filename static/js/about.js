// The page of a model: copy its programs.

import { copy } from "./ui.js";

for (const button of document.querySelectorAll("button.copy")) {
  button.addEventListener("click", () => copy(button.closest(".stack").querySelector("pre").textContent, "Program"));
}
