// A door that opens when everybody in view has been smiling for one second.

import { watch } from "./camera.js";

const SECOND = 1000;
const gate = document.getElementById("gate");
const title = document.getElementById("door-title");
const verdict = document.getElementById("verdict");
const held = document.getElementById("held");
let since = null;

watch((faces) => judge(faces ?? [], performance.now()), () => judge([], performance.now()));

function judge(faces, now) {
  const frowning = faces.filter(({ smile }) => smile <= 0.5).length;
  if (!faces.length || frowning) since = null;
  else since ??= now;
  const part = since === null ? 0 : Math.min(1, (now - since) / SECOND);
  held.value = part;
  const open = part === 1;
  if (gate.dataset.open !== String(open)) {
    gate.dataset.open = String(open);
    title.textContent = open ? "An open door" : "A shut door";
  }
  const text = open ? "Open. Come in!" : reason(faces.length, frowning);
  if (verdict.textContent !== text) verdict.textContent = text;
}

function reason(all, frowning) {
  if (!all) return "Shut.";
  if (!frowning) return "Keep smiling…";
  return all === 1 ? "Shut: smile!" : `Shut: ${frowning} of ${all} must smile yet.`;
}
