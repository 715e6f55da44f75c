// Grey PNGs of 16 bits, rounded to 8 as in Opsin: a browser's canvas cuts the lower bits off.
"use strict";

const PNG = 0x89504e47, NUM_CHECK_BYTES = 12; // of a chunk beside its data: size, name, checksum

// Upright RGBA; null for a file that is another image, or in passes, which a canvas has to read.
async function deepGrey(blob) {
  const file = await blob.arrayBuffer(), view = new DataView(file);
  if (view.byteLength < 33 || view.getUint32(0) !== PNG || view.getUint8(24) !== 16 || view.getUint8(25) !== 0 || view.getUint8(28) !== 0) return null;
  const width = view.getUint32(16), height = view.getUint32(20), packed = [];
  let orientation = 1;
  for (let at = 8; at + NUM_CHECK_BYTES <= view.byteLength; ) {
    const size = view.getUint32(at), name = String.fromCharCode(...new Uint8Array(file, at + 4, 4));
    if (name === "tRNS") return null;
    if (name === "IDAT") packed.push(new Uint8Array(file, at + 8, size));
    if (name === "eXIf") orientation = tiffOrientation(new DataView(file, at + 8, size));
    at += NUM_CHECK_BYTES + size;
  }
  const stream = new Blob(packed).stream().pipeThrough(new DecompressionStream("deflate"));
  const lines = new Uint8Array(await new Response(stream).arrayBuffer());
  if (lines.length !== height * (2 * width + 1)) return null;
  return upright({ width, height, data: rounded(lines, width, height) }, orientation);
}

function rounded(lines, width, height) { // RGBA of filtered lines of two bytes a pixel
  const rgba = new Uint8Array(4 * width * height);
  let above = new Uint8Array(2 * width);
  for (let y = 0; y < height; y++) {
    const start = y * (2 * width + 1), line = lines.subarray(start + 1, start + 1 + 2 * width);
    unfiltered(line, above, lines[start]);
    for (let x = 0; x < width; x++) {
      const value = Math.floor((256 * line[2 * x] + line[2 * x + 1] + 128) / 257);
      rgba.set([value, value, value, 255], 4 * (y * width + x));
    }
    above = line;
  }
  return rgba;
}

function unfiltered(line, above, filter) { // in place; section 9 of the PNG specification
  for (let i = 0; i < line.length; i++) {
    const left = i < 2 ? 0 : line[i - 2], corner = i < 2 ? 0 : above[i - 2];
    line[i] += [0, left, above[i], (left + above[i]) >> 1, paeth(left, above[i], corner)][filter];
  }
}

function paeth(left, above, corner) { // the one that is nearest to left + above - corner
  const [toLeft, toAbove, toCorner] = [above - corner, left - corner, left + above - 2 * corner].map(Math.abs);
  if (toLeft <= toAbove && toLeft <= toCorner) return left;
  return toAbove <= toCorner ? above : corner;
}
