// The images of this browser: each can be deleted with a way back, all of them after a question.

import { deletedBefore, deleteLater } from "./delete.js";
import { confirmed } from "./ui.js";

for (const item of document.querySelectorAll(".recent > li")) {
  item.hidden = deletedBefore().includes(item.dataset.id);
  const form = item.querySelector("form.delete");
  form.addEventListener("submit", (event) => {
    event.preventDefault();
    item.hidden = true;
    deleteLater(item.dataset.id, form.action, { undo: () => { item.hidden = false; } });
  });
}

const all = document.querySelector("form.delete-all");
all?.addEventListener("submit", async (event) => {
  event.preventDefault();
  const text = "All images that this browser has sent are deleted, with their answers and corrections.";
  if (await confirmed("Delete all images?", text, "Delete all")) all.submit();
});
