// Faces from one frame to the next: each keeps its number, and its box does not flicker.

const SAME = 0.3; // boxes that share this part of their union are one face
const STEP = 0.5; // part of the way to a new box and a new probability that one frame goes
const PATIENCE = 3; // frames for which a face that is not found stays

let faces = [];
let next = 1;

// Returns the faces of this frame with `id`, a number that stays; those not found for a moment are among them.
export function follow(found) {
  const pairs = faces
    .flatMap((face) => found.map((one) => ({ face, one, shared: overlap(face.box, one.box) })))
    .filter(({ shared }) => shared >= SAME)
    .sort((a, b) => b.shared - a.shared);
  const matches = new Map();
  const taken = new Set();
  for (const { face, one } of pairs) {
    if (matches.has(face) || taken.has(one)) continue;
    matches.set(face, one);
    taken.add(one);
  }
  const known = faces.map((face) => (matches.has(face) ? towards(face, matches.get(face)) : { ...face, missed: face.missed + 1 }));
  const fresh = found.filter((one) => !taken.has(one)).map((one) => ({ ...one, id: next++, missed: 0 }));
  faces = [...known.filter(({ missed }) => missed <= PATIENCE), ...fresh];
  return faces;
}

export function forget() {
  faces = [];
  next = 1;
}

function towards(face, found) {
  const { box, smile } = found;
  const between = (from, to) => from + STEP * (to - from);
  const moved = Object.fromEntries(Object.keys(box).map((side) => [side, between(face.box[side], box[side])]));
  return { ...face, ...found, box: moved, smile: between(face.smile, smile), missed: 0 };
}

function overlap(one, other) {
  const across = Math.min(one.x + one.width, other.x + other.width) - Math.max(one.x, other.x);
  const down = Math.min(one.y + one.height, other.y + other.height) - Math.max(one.y, other.y);
  const shared = Math.max(0, across) * Math.max(0, down);
  return shared / (one.width * one.height + other.width * other.height - shared);
}
