// The webcam: a few frames a second are sent to the model, one at a time, and forgotten.

import { ask, Refused } from "./ask.js";
import { follow, forget } from "./tracks.js";

const SVG = "http://www.w3.org/2000/svg";
const WIDTH = 480;
const INTERVAL = 66; // milliseconds from one frame to the next, at least
const PAUSE = 10; // milliseconds between an answer and the next frame, at least

const start = document.getElementById("start");
const state = document.getElementById("state");
const camera = document.getElementById("camera");
const video = document.getElementById("video");
const frames = document.getElementById("frames");
const canvas = document.createElement("canvas");
let stream = null;

// Call `seen(faces)` for every frame; a face has `id`, `box` and `smile`, 0..1. `ended` is called when the camera stops.
export function watch(seen, ended = () => {}) {
  if (!start) return;
  start.addEventListener("click", () => (stream ? stop(ended) : begin(seen, ended)));
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
  camera.hidden = false;
  start.textContent = "Stop the camera";
  state.textContent = "";
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
  camera.hidden = true;
  frames.replaceChildren();
  forget();
  start.textContent = "Start the camera";
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
    const faces = follow((answer.faces ?? []).map((face) => ({ box: face.box, smile: face.predictions.find((one) => one.class === "smiling")?.probability ?? 0 })));
    state.textContent = faces.length ? "" : "No face in view.";
    draw(faces);
    seen(faces);
  } catch (error) {
    if (!(error instanceof Refused)) throw error;
    if (stream) stop(ended);
    state.textContent = error.message;
  }
}

function draw(faces) {
  frames.setAttribute("viewBox", `0 0 ${canvas.width} ${canvas.height}`);
  frames.replaceChildren(...faces.map(({ id, box, smile }) => {
    const group = made("g", { class: smile > 0.5 ? "face smiling kind-1" : "face kind-0", "data-face": id });
    const { x, y, width, height } = box;
    group.append(made("rect", { x, y, width, height, rx: width * 0.04, "vector-effect": "non-scaling-stroke" }));
    group.append(made("rect", { class: "meter", x, y: y + height + 4, width, height: 6, rx: 3 }));
    group.append(made("rect", { class: "level", x, y: y + height + 4, width: Math.max(1, width * smile), height: 6, rx: 3 }));
    return group;
  }));
}

function made(name, attributes) {
  const element = document.createElementNS(SVG, name);
  for (const [key, value] of Object.entries(attributes)) element.setAttribute(key, value);
  return element;
}
