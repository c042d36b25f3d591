// The heat map over an image: of any class and any face, with a scale and an opacity.

import { get, Refused } from "./ask.js";
import { combobox } from "./combobox.js";
import { element, shape } from "./ui.js";

const FEW_LABELS = 20;
const LEAST_DROP = 0.1; // for the full colour, so that what hardly matters stays pale
const WARM = [255, 205, 70];
const HOT = [206, 17, 60];
const STEPS = 24; // pixels to a cell of the map
const OPACITY = "dimple-heat-opacity";

export async function toggleHeat(figure, article, face) {
  const there = article.querySelector(".heat-panel");
  const button = article.querySelector(".heat-toggle");
  if (there && !face) {
    there.remove();
    figure.querySelector(".heat-layer")?.remove();
    figure.classList.remove("heated");
    button.setAttribute("aria-pressed", "false");
    return;
  }
  button.setAttribute("aria-pressed", "true");
  if (there) { there.choose({ face }); return; }
  await open(figure, article, face);
}

async function open(figure, article, face = "1") {
  const id = article.dataset.id;
  const chosen = { face, label: "" };
  const says = element("p", { class: "small quiet", role: "status" }, "Computing the heat map…");
  const most = element("span", { class: "small number" }, "");
  const opacity = element("input", { type: "range", min: "0", max: "100", value: localStorage.getItem(OPACITY) ?? "80", id: "heat-opacity" });
  const panel = element("div", { class: "heat-panel" }, says);
  article.querySelector(".verdicts").after(panel);
  opacity.addEventListener("input", () => {
    localStorage.setItem(OPACITY, opacity.value);
    figure.querySelector(".heat-layer")?.setAttribute("opacity", opacity.value / 100);
  });

  const draw = async () => {
    panel.setAttribute("aria-busy", "true");
    const query = new URLSearchParams({ face: chosen.face, ...(chosen.label && { class: chosen.label }) });
    try {
      const map = await get(`/result/${id}/why?${query}`, { waiting: (seconds) => { says.textContent = `The model is busy; trying again in ${seconds} s.`; } });
      if (!panel.isConnected) return null;
      says.textContent = "Red areas drive the prediction: hiding them lowers its confidence.";
      says.className = "small quiet";
      const top = Math.max(...map.drops.flat(), LEAST_DROP);
      most.textContent = `−${Math.round(top * 100)} points`;
      paint(figure, map, top, opacity.value / 100);
      return map;
    } catch (error) {
      if (!(error instanceof Refused)) throw error;
      says.textContent = error.message;
      says.className = "notice danger small";
      return null;
    } finally {
      panel.removeAttribute("aria-busy");
    }
  };

  panel.choose = (what) => {
    Object.assign(chosen, what);
    const select = panel.querySelector("select[name=face]");
    if (select) select.value = chosen.face;
    return draw();
  };
  const [map, labels] = await Promise.all([draw(), get(`/labels/${encodeURIComponent(article.dataset.model)}`).catch(() => [])]);
  if (!map) return;
  panel.append(...controls(article, labels, map, chosen, panel), field("Opacity", opacity), scale(most));
}

function controls(article, labels, map, chosen, panel) {
  const faces = article.querySelectorAll(".faces .bar").length;
  const made = [];
  if (faces > 1) {
    const select = element("select", { name: "face", id: "heat-face" }, ...Array.from({ length: faces }, (_, place) => element("option", { value: place + 1 }, `Face ${place + 1}`)));
    select.value = chosen.face;
    select.addEventListener("change", () => panel.choose({ face: select.value }));
    made.push(field("Face", select));
  }
  if (labels.length > FEW_LABELS) {
    const input = element("input", { type: "text", id: "heat-class", autocomplete: "off", value: labels.find(({ label }) => label === map.class)?.name ?? map.class });
    made.push(field("Class", input));
    combobox(input, () => labels, ({ label }) => panel.choose({ label }));
  } else if (labels.length) {
    const select = element("select", { id: "heat-class" }, ...labels.map(({ label, name }) => element("option", { value: label }, name)));
    select.value = map.class;
    select.addEventListener("change", () => panel.choose({ label: select.value }));
    made.push(field("Class", select));
  }
  return made;
}

function field(title, input) {
  return element("div", { class: "field" }, element("label", { for: input.id }, title), input);
}

function scale(most) {
  const stops = [0, 0.5, 1].map((at) => shape("stop", { offset: at, "stop-color": rgb(at), "stop-opacity": strength(at) }));
  return element("p", { class: "scale small" }, "no effect", shape("svg", { "aria-hidden": "true" },
    shape("defs", {}, shape("linearGradient", { id: "heat-scale" }, ...stops)),
    shape("rect", { width: "100%", height: "100%", fill: "url(#heat-scale)" })), most);
}

const mixed = (at) => WARM.map((from, place) => Math.round(from + at * (HOT[place] - from)));
const rgb = (at) => `rgb(${mixed(at).join(" ")})`;
const strength = (at) => Math.min(1, at * 1.3);

// A layer of the picture's SVG. Around the cells is a ring without colour, so that the map has no hard edge.
function paint(figure, { drops, region }, top, opacity) {
  const cells = drops.length;
  const small = document.createElement("canvas");
  small.width = small.height = cells + 2;
  const pixels = new ImageData(cells + 2, cells + 2);
  for (let row = 0; row < cells + 2; row++) {
    for (let column = 0; column < cells + 2; column++) {
      const inside = drops[row - 1]?.[column - 1];
      const near = drops[Math.min(cells - 1, Math.max(0, row - 1))][Math.min(cells - 1, Math.max(0, column - 1))];
      const at = Math.max(0, inside ?? near) / top;
      pixels.data.set([...mixed(at), inside === undefined ? 0 : 255 * strength(at)], 4 * (row * (cells + 2) + column));
    }
  }
  small.getContext("2d").putImageData(pixels, 0, 0);
  const large = document.createElement("canvas");
  large.width = large.height = (cells + 2) * STEPS;
  const context = large.getContext("2d");
  context.imageSmoothingQuality = "high";
  context.drawImage(small, 0, 0, large.width, large.height);
  const across = region.width / cells;
  const down = region.height / cells;
  figure.querySelector(".heat-layer")?.remove();
  figure.querySelector("svg image").after(shape("image", {
    class: "heat-layer", href: large.toDataURL(), preserveAspectRatio: "none", opacity,
    x: region.x - across, y: region.y - down, width: region.width + 2 * across, height: region.height + 2 * down,
  }));
  figure.classList.add("heated");
}
