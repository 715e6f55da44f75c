// Opsin's own resize in whole numbers, bit for bit, as in predict.py: from the pixels of a photo to the network's input.
"use strict";

const MAX_BITS = 22; // of a weight; fewer where the largest weight would not fit into 15 bits and a sign

function roundHalfEven(value) { // as Python rounds
  const floor = Math.floor(value);
  if (value - floor !== 0.5) return Math.round(value);
  return floor % 2 === 0 ? floor : floor + 1;
}

function taps(length, old, side) { // for each new pixel: its first old pixel and its weights; and the bits of a weight
  const scale = side / length, support = Math.max(scale, 1), found = [];
  let largest = 0;
  for (let k = 0; k < length; k++) {
    const centre = (k + 0.5) * scale;
    const first = Math.max(Math.trunc(centre - support + 0.5), 0);
    const last = Math.min(Math.trunc(centre + support + 0.5), old);
    const weights = new Float64Array(Math.max(last - first, 0));
    let sum = 0;
    for (let j = 0; j < weights.length; j++) {
      weights[j] = Math.max(1 - Math.abs(first + j - centre + 0.5) / support, 0);
      sum += weights[j];
    }
    for (let j = 0; j < weights.length; j++) largest = Math.max(largest, weights[j] /= sum);
    found.push({ first, weights });
  }
  let bits = 0;
  while (bits < MAX_BITS && Math.trunc(0.5 + largest * 2 ** (bits + 1)) < 1 << 15) bits++;
  for (const tap of found) tap.weights = Int32Array.from(tap.weights, (weight) => Math.trunc(weight * 2 ** bits + 0.5));
  return { found, bits };
}

// `image`: {height, width, channels, data: uint8 [H, W, C]}. `vertical`: which axis. `side`: of the photo in pixels of `image`.
function resample(image, length, vertical, side) {
  const old = vertical ? image.height : image.width;
  if (length === old) return image;
  const { height, width, channels, data } = image, { found, bits } = taps(length, old, side);
  const made = vertical ? { height: length, width, channels } : { height, width: length, channels };
  made.data = new Uint8ClampedArray(made.height * made.width * channels);
  const step = vertical ? width * channels : channels; // from one old pixel of the axis to the next
  const half = bits > 0 ? 1 << (bits - 1) : 0;
  for (let y = 0, to = 0; y < made.height; y++) {
    for (let x = 0; x < made.width; x++) {
      const { first, weights } = found[vertical ? y : x];
      const start = vertical ? first * step + x * channels : (y * width + first) * channels;
      for (let c = 0; c < channels; c++, to++) {
        let total = half;
        for (let j = 0, from = start + c; j < weights.length; j++, from += step) total += weights[j] * data[from];
        made.data[to] = total >> bits;
      }
    }
  }
  return made;
}

function resampledSides(size, height, width) { // height and width of a photo in the frame, by the size policy
  const ratios = [size.height / height, size.width / width];
  if (size.fit === "squash") return [size.height, size.width];
  const ratio = size.fit === "crop" ? Math.max(...ratios) / size.crop_share : Math.min(...ratios);
  return [height, width].map((side) => Math.max(1, roundHalfEven(side * ratio)));
}

// The network's input, uint8 [C, H, W], black where `pad` leaves room; and where the photo lies in it. `whole`: sides of the
// photo, where `image` was decoded at 1/`part` of them.
function fitted(image, size, whole = image, part = 1) {
  const [height, width] = resampledSides(size, whole.height, whole.width);
  const small = resample(resample(image, width, false, whole.width / part), height, true, whole.height / part);
  const top = Math.floor((size.height - height) / 2), left = Math.floor((size.width - width) / 2);
  const area = size.height * size.width, pixels = new Uint8Array(image.channels * area);
  for (let y = Math.max(top, 0); y < Math.min(top + height, size.height); y++) {
    for (let x = Math.max(left, 0); x < Math.min(left + width, size.width); x++) {
      const from = ((y - top) * width + x - left) * image.channels, to = y * size.width + x;
      for (let c = 0; c < image.channels; c++) pixels[c * area + to] = small.data[from + c];
    }
  }
  return { pixels, top, left, scaleY: height / whole.height, scaleX: width / whole.width };
}

// RGBA as Opsin takes it: on white, and grey where the network sees one channel (ITU-R BT.601, in Pillow's whole numbers).
function flattened({ height, width, data }, channels) {
  const made = { height, width, channels, data: new Uint8Array(height * width * channels) };
  for (let from = 0, to = 0; from < data.length; from += 4) {
    const rgb = [0, 1, 2].map((c) => onWhite(data[from + c], data[from + 3]));
    if (channels === 1) made.data[to++] = (19595 * rgb[0] + 38470 * rgb[1] + 7471 * rgb[2] + 0x8000) >> 16;
    else for (const value of rgb) made.data[to++] = value;
  }
  return made;
}

function onWhite(value, alpha) { // Pillow's division by 255
  if (alpha === 255) return value;
  const total = 255 * (255 - alpha) + value * alpha + 128;
  return ((total >> 8) + total) >> 8;
}
