// Photos stand upright by their EXIF orientation, and large JPEGs are decoded at 1/2, 1/4 or 1/8 of their sides, as in Opsin.
// Browsers turn JPEGs themselves when they decode all of it; WebP they leave as it is stored.
"use strict";

const ORIENTATION = 0x0112, HEADER_BYTES = 12; // the tag of TIFF; RIFF, its size, WEBP
const REDUCTIONS = [8, 4, 2], SPARE = 2; // a JPEG keeps at least twice the pixels that are looked at

async function webpOrientation(blob) { // 1 to 8; 0 for a file that is no WebP
  const view = new DataView(await blob.arrayBuffer());
  const text = (at) => (at + 4 <= view.byteLength ? String.fromCharCode(...new Uint8Array(view.buffer, at, 4)) : "");
  if (text(0) !== "RIFF" || text(8) !== "WEBP") return 0;
  for (let at = HEADER_BYTES; at + 8 <= view.byteLength; ) {
    const size = view.getUint32(at + 4, true);
    if (text(at) === "EXIF") return tiffOrientation(new DataView(view.buffer, at + 8, Math.min(size, view.byteLength - at - 8)));
    at += 8 + size + (size % 2); // chunks are padded to an even number of bytes
  }
  return 1;
}

// Stored sides and orientation of a JPEG; null for a file that is none.
function jpegFacts(view) {
  if (view.byteLength < 4 || view.getUint16(0) !== 0xffd8) return null;
  let orientation = 1;
  for (let at = 2; at + 9 <= view.byteLength && view.getUint8(at) === 0xff; ) {
    const marker = view.getUint8(at + 1), bytes = view.getUint16(at + 2);
    if (marker >= 0xc0 && marker <= 0xcf && ![0xc4, 0xc8, 0xcc].includes(marker)) {
      return { height: view.getUint16(at + 5), width: view.getUint16(at + 7), orientation };
    }
    if (marker === 0xff) at += 1; // padding
    else {
      const isExif = marker === 0xe1 && bytes > 8 && at + 2 + bytes <= view.byteLength && view.getUint32(at + 4) === 0x45786966;
      if (isExif) orientation = tiffOrientation(new DataView(view.buffer, at + 4, bytes - 2));
      at += 2 + bytes;
    }
  }
  return null;
}

// What the sides of a JPEG are divided by at decoding. `needed`: [height, width] to which it is resampled, from those of a photo.
function reductionOf({ height, width, orientation }, needed) {
  const sides = orientation >= 5 ? [width, height] : [height, width], wanted = needed(...sides);
  return REDUCTIONS.find((part) =>
    sides.every((side, axis) => side >= SPARE * part * wanted[axis] && (orientation === 1 || side % part === 0))) ?? 1;
}

// A large JPEG as Opsin decodes it, RGBA with the sides of the whole; null where the browser cannot, or need not.
async function reduced(blob, needed) {
  const data = await blob.arrayBuffer(), facts = jpegFacts(new DataView(data));
  const part = facts ? reductionOf(facts, needed) : 1;
  if (part === 1 || typeof ImageDecoder === "undefined") return null;
  const [width, height] = [facts.width, facts.height].map((side) => Math.ceil(side / part));
  const about = { data, type: "image/jpeg", colorSpaceConversion: "none", desiredWidth: width, desiredHeight: height };
  const decoder = new ImageDecoder(about), { image } = await decoder.decode();
  const rgba = new Uint8Array(4 * width * height), isAsked = image.codedWidth === width && image.codedHeight === height;
  if (isAsked) await image.copyTo(rgba, { format: "RGBA", rect: { x: 0, y: 0, width, height } });
  image.close();
  decoder.close();
  if (!isAsked) return null;
  const whole = facts.orientation >= 5 ? { height: facts.width, width: facts.height } : { height: facts.height, width: facts.width };
  return { ...upright({ width, height, data: rgba }, facts.orientation), part, whole };
}

function tiffOrientation(view) {
  const start = view.byteLength > 6 && view.getUint32(0) === 0x45786966 ? 6 : 0; // some writers begin with "Exif\0\0"
  if (view.byteLength < start + 8) return 1;
  const little = view.getUint16(start) === 0x4949, entries = start + view.getUint32(start + 4, little);
  if (entries + 2 > view.byteLength) return 1;
  const count = view.getUint16(entries, little);
  for (let at = entries + 2; at + 12 <= Math.min(view.byteLength, entries + 2 + 12 * count); at += 12) {
    if (view.getUint16(at, little) !== ORIENTATION) continue;
    const value = view.getUint16(at + 8, little);
    return value >= 1 && value <= 8 ? value : 1;
  }
  return 1;
}

const SOURCES = { // where a pixel (x, y) of the upright picture is stored, in a picture of w x h pixels
  2: (x, y, w) => [w - 1 - x, y],
  3: (x, y, w, h) => [w - 1 - x, h - 1 - y],
  4: (x, y, w, h) => [x, h - 1 - y],
  5: (x, y) => [y, x],
  6: (x, y, w, h) => [y, h - 1 - x],
  7: (x, y, w, h) => [w - 1 - y, h - 1 - x],
  8: (x, y, w) => [w - 1 - y, x],
};

function upright(stored, orientation) { // RGBA pixels {width, height, data}
  const source = SOURCES[orientation];
  if (!source) return stored;
  const { width: w, height: h } = stored, [width, height] = orientation >= 5 ? [h, w] : [w, h];
  const from = new Uint32Array(new Uint8Array(stored.data).buffer), to = new Uint32Array(from.length);
  for (let y = 0; y < height; y++) {
    for (let x = 0; x < width; x++) {
      const [column, row] = source(x, y, w, h);
      to[y * width + x] = from[row * w + column];
    }
  }
  return { width, height, data: new Uint8ClampedArray(to.buffer) };
}
