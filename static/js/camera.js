// The webcam: a few frames a second are sent to the model, one at a time, and forgotten.

import { ask, Refused } from "./ask.js";
import { follow, forget } from "./tracks.js";
import { shape } from "./ui.js";

const WIDTH = 480;
const INTERVAL = 66; // milliseconds from one frame to the next, at least
const PAUSE = 10; // milliseconds between an answer and the next frame, at least
const RATE_FRAMES = 20; // over which the frames a second are counted
const KINDS = 4;

const start = document.getElementById("start");
const stopper = document.getElementById("stop");
const state = document.getElementById("state");
const rate = document.getElementById("rate");
const camera = document.getElementById("camera");
const before = document.getElementById("before");
const mirror = document.getElementById("mirror");
const video = document.getElementById("video");
const frames = document.getElementById("frames");
const canvas = document.createElement("canvas");
let stream = null;
let times = [];

// Call `seen(faces, predictions)` for every frame; a face has `id`, `box`, `predictions`, `kind` and `smile`, 0..1.
// `faces` is null with a model that does not look for faces. `ended` is called when the camera stops.
export function watch(seen, ended = () => {}) {
  if (!start) return;
  start.addEventListener("click", () => begin(seen, ended));
  stopper.addEventListener("click", () => stop(ended));
  addEventListener("pagehide", () => stream && stop(ended));
}

async function begin(seen, ended) {
  if (!navigator.mediaDevices) {
    state.textContent = "Browsers give the camera only to pages at localhost or over HTTPS. Open this page there.";
    return;
  }
  try {
    state.textContent = "Waiting for the camera…";
    stream = await navigator.mediaDevices.getUserMedia({ video: { facingMode: "user", width: { ideal: 640 } }, audio: false });
  } catch (error) {
    stream = null;
    state.textContent = error.name === "NotAllowedError"
      ? "The camera was not allowed. Allow it in the browser's settings of this page, and start again."
      : "No camera was found, or another program is using it.";
    return;
  }
  video.srcObject = stream;
  mirror.hidden = stopper.hidden = false;
  before.hidden = true;
  state.textContent = "";
  stopper.focus();
  times = [];
  await video.play();
  while (stream) {
    const begun = performance.now();
    await look(seen, ended);
    const wait = Math.max(PAUSE, INTERVAL - (performance.now() - begun));
    await new Promise((resolve) => setTimeout(resolve, wait));
  }
}

function stop(ended) {
  for (const track of stream.getTracks()) track.stop();
  stream = null;
  video.srcObject = null;
  mirror.hidden = stopper.hidden = true;
  before.hidden = false;
  rate.textContent = "";
  frames.replaceChildren();
  state.textContent = "The camera is off.";
  forget();
  ended();
}

async function look(seen, ended) {
  if (!video.videoWidth || document.hidden) return;
  canvas.width = WIDTH;
  canvas.height = Math.round((WIDTH * video.videoHeight) / video.videoWidth);
  canvas.getContext("2d").drawImage(video, 0, 0, canvas.width, canvas.height);
  const frame = await new Promise((resolve) => canvas.toBlob(resolve, "image/jpeg", 0.85));
  const form = new FormData();
  form.set("file", frame, "frame.jpg");
  try {
    const answer = JSON.parse(await ask(camera.dataset.address, form, (news) => { if (news.busy) state.textContent = "The model is busy; it will go on."; }));
    if (!stream) return;
    count();
    const faces = answer.faces && follow(answer.faces.map(described));
    state.textContent = !faces || faces.length ? "" : "No face in view.";
    draw(faces ?? []);
    seen(faces, answer.predictions);
  } catch (error) {
    if (!(error instanceof Refused)) throw error;
    if (stream) stop(ended);
    state.textContent = error.message;
  }
}

// Of a model of smiles the level is how much a face smiles, of others how sure the model is
function described({ box, predictions }) {
  const labels = predictions.map((one) => one.class).sort();
  const kind = labels.indexOf(predictions[0].class) % KINDS;
  const smile = predictions.find((one) => one.class === "smiling")?.probability ?? predictions[0].probability;
  return { box, predictions, kind, smile };
}

function count() {
  times = [...times, performance.now()].slice(-RATE_FRAMES);
  if (times.length > 2) rate.textContent = `${((times.length - 1) / ((times.at(-1) - times[0]) / 1000)).toFixed(0)} frames/s`;
}

function draw(faces) {
  frames.setAttribute("viewBox", `0 0 ${canvas.width} ${canvas.height}`);
  frames.replaceChildren(...faces.map(({ id, box, smile, kind }) => {
    const group = shape("g", { class: `face kind-${kind}${smile > 0.5 ? " smiling" : ""}`, "data-face": id });
    const { x, y, width, height } = box;
    group.append(shape("rect", { x, y, width, height, rx: width * 0.04, "vector-effect": "non-scaling-stroke" }));
    group.append(shape("rect", { class: "meter", x, y: y + height + 4, width, height: 6, rx: 3 }));
    group.append(shape("rect", { class: "level", x, y: y + height + 4, width: Math.max(1, width * smile), height: 6, rx: 3 }));
    return group;
  }));
}
