// Deleting with a way back: the server is told when the seconds for "Undo" are over, or when the page is left.

import { toast } from "./ui.js";

const SECONDS = 10;
const DELETED = "dimple-deleted";
const pending = new Map();

export function deleteLater(id, address, { undo }) {
  const send = () => {
    if (!pending.delete(id)) return;
    fetch(address, { method: "POST", headers: { "X-Part": "row" }, keepalive: true });
    sessionStorage.setItem(DELETED, JSON.stringify([...deletedBefore(), id]));
    document.dispatchEvent(new CustomEvent("image-deleted", { detail: id }));
  };
  const close = toast("Image deleted", { seconds: SECONDS, ended: send, action: { label: "Undo", run: () => { pending.delete(id); undo(); } } });
  pending.set(id, () => { close(); send(); });
}

// Ids that were deleted just before this page was loaded, perhaps a moment later than the server made it
export function deletedBefore() {
  return JSON.parse(sessionStorage.getItem(DELETED) ?? "[]");
}

addEventListener("pagehide", () => { for (const send of [...pending.values()]) send(); });
