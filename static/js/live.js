import { element } from "./ask.js";
import { watch } from "./camera.js";

const smiles = document.getElementById("smiles");

watch(
  (faces) => smiles.replaceChildren(...faces.map(({ smile }, index) => {
    const percent = `${Math.round(smile * 100)} %`;
    const bar = element("progress", { max: "1", value: String(smile), "aria-label": `Smile of face ${index + 1}` });
    return element("p", {}, `Face ${index + 1} `, bar, ` ${percent}`);
  })),
  () => smiles.replaceChildren(),
);
