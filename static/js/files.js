// The images in folders and zips. What is in a zip is unpacked one by one, when it is needed.

import { Refused } from "./ask.js";

const IMAGE = /\.(jpe?g|jpe|jfif|a?png|gif|webp|avif|hei[cf]|bmp|tiff?)$/i;
const HIDDEN = /(^|\/)(\.|__MACOSX\/|Thumbs\.db$)/;
const ZIP = /\.zip$/i;

// Returns the images: a File for each, or an object with the same `name` and `size` whose `open()` resolves to one.
export async function unpacked(files, entries = []) {
  if (entries.length) files = (await Promise.all(entries.map(filesOf))).flat();
  const fromFolder = entries.length || files.some((file) => file.webkitRelativePath);
  const found = [];
  for (const file of files) {
    if (ZIP.test(file.name)) found.push(...(await imagesOf(file)));
    else if (!fromFolder || (IMAGE.test(file.name) && !HIDDEN.test(file.webkitRelativePath || file.name))) found.push(file);
  }
  return found;
}

async function filesOf(entry) {
  if (entry.isFile) return [await new Promise((resolve, reject) => entry.file(resolve, reject))];
  const reader = entry.createReader();
  const children = [];
  for (;;) { // a reader gives a hundred entries at a time
    const some = await new Promise((resolve, reject) => reader.readEntries(resolve, reject));
    if (!some.length) break;
    children.push(...some);
  }
  return (await Promise.all(children.map(filesOf))).flat();
}

// The ZIP format: https://pkware.cachefly.net/webdocs/casestudies/APPNOTE.TXT

const END = 0x06054b50;
const ENTRY = 0x02014b50;
const END_BYTES = 22;
const LONGEST_COMMENT = 65535;
const STORED = 0;
const DEFLATED = 8;

async function imagesOf(zip) {
  const tail = await viewOf(zip.slice(Math.max(0, zip.size - END_BYTES - LONGEST_COMMENT)));
  let at = tail.byteLength - END_BYTES;
  while (at >= 0 && tail.getUint32(at, true) !== END) at--;
  if (at < 0) throw new Refused(`${zip.name} is not a zip file, or is damaged.`);
  const count = tail.getUint16(at + 10, true);
  const size = tail.getUint32(at + 12, true);
  const start = tail.getUint32(at + 16, true);
  if (start === 0xffffffff || count === 0xffff) throw new Refused(`${zip.name} is in the format for zips over 4 GB, which is not read here. Split it.`);
  const directory = await viewOf(zip.slice(start, start + size));
  const found = [];
  for (let place = 0; place + 46 <= directory.byteLength && directory.getUint32(place, true) === ENTRY;) {
    const [nameLength, extraLength, commentLength] = [28, 30, 32].map((offset) => directory.getUint16(place + offset, true));
    const name = new TextDecoder().decode(new Uint8Array(directory.buffer, place + 46, nameLength));
    const entry = {
      name,
      size: directory.getUint32(place + 24, true),
      packed: directory.getUint32(place + 20, true),
      method: directory.getUint16(place + 10, true),
      encrypted: directory.getUint16(place + 8, true) & 1,
      header: directory.getUint32(place + 42, true),
    };
    if (IMAGE.test(name) && !HIDDEN.test(name)) found.push({ name, size: entry.size, open: () => extracted(zip, entry) });
    place += 46 + nameLength + extraLength + commentLength;
  }
  return found;
}

async function extracted(zip, { name, size, packed, method, encrypted, header }) {
  if (encrypted || (method !== STORED && method !== DEFLATED)) throw new Refused("It is encrypted in the zip, or packed in a way that is not read here.");
  const head = await viewOf(zip.slice(header, header + 30));
  const start = header + 30 + head.getUint16(26, true) + head.getUint16(28, true);
  const blob = zip.slice(start, start + packed);
  if (method === STORED) return new File([blob], name);
  const chunks = [];
  let length = 0;
  const reader = blob.stream().pipeThrough(new DecompressionStream("deflate-raw")).getReader();
  try {
    for (let { done, value } = await reader.read(); !done; { done, value } = await reader.read()) {
      length += value.length;
      if (length > size) throw new Refused("It is longer than the zip says.");
      chunks.push(value);
    }
  } catch (error) {
    if (error instanceof Refused) throw error;
    throw new Refused("It is damaged in the zip.");
  }
  return new File(chunks, name);
}

async function viewOf(blob) {
  return new DataView(await blob.arrayBuffer());
}
