import { element } from "./ask.js";
import { watch } from "./camera.js";

const smiles = document.getElementById("smiles");

watch(
  (faces) => smiles.replaceChildren(...faces.map(({ id, smile }) => {
    const percent = `${Math.round(smile * 100)} %`;
    const bar = element("progress", { max: "1", value: String(smile), "aria-label": `Smile of face ${id}` });
    return element("p", {}, `Face ${id} `, bar, ` ${percent}`);
  })),
  () => smiles.replaceChildren(),
);
