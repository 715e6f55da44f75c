// A photo, the network of model.onnx in ONNX Runtime, and what it says. No address but those of this folder is asked.
"use strict";

const NUM_BARS = 10, SHOWN_PX = 840, LINE_PX = 4; // of the canvas: the longer side of the photo, the lines of a box
const element = (id) => document.getElementById(id);
let contract, session, shown = null;

async function start() {
  if (location.protocol === "file:") {
    throw Error("Browsers read no network from file://. In this folder run\npython -m http.server --bind 127.0.0.1\nand open http://127.0.0.1:8000");
  }
  contract = await (await fetch("contract.json")).json();
  document.title = contract.name;
  element("name").textContent = contract.name;
  element("about").textContent = `${contract.task}, ${contract.architecture}, ${contract.classes.length} classes. Photos stay on this machine.`;
  if (typeof ort === "undefined") {
    throw Error(`ONNX Runtime is not in this folder. Once, with network:\n${(await (await fetch("ort.txt")).text()).trim()}`);
  }
  ort.env.wasm.wasmPaths = new URL("ort/", location.href).href;
  ort.env.wasm.numThreads = 1; // more need a server that isolates the page
  session = await ort.InferenceSession.create("model.onnx", { executionProviders: ["wasm"] });
  element("file").disabled = false;
  say("Ready.");
}

function say(text, kind = "") {
  element("status").textContent = text;
  element("status").className = kind;
}

async function decoded(blob) { // upright RGBA, as stored: no colour profile is applied, no alpha multiplied
  const orientation = await webpOrientation(blob), imageOrientation = orientation ? "none" : "from-image";
  const bitmap = await createImageBitmap(blob, { imageOrientation, colorSpaceConversion: "none", premultiplyAlpha: "none" });
  const { width, height } = bitmap, canvas = new OffscreenCanvas(width, height);
  const context = canvas.getContext("2d", { willReadFrequently: true });
  context.drawImage(bitmap, 0, 0);
  const { data } = context.getImageData(0, 0, width, height);
  const clear = data.some((value, index) => index % 4 === 3 && value < 255);
  return upright({ width, height, data: (clear && unmultiplied(bitmap)) || data }, orientation);
}

function unmultiplied(bitmap) { // a canvas rounds colours below alpha; WebGL gives them as they are. Null where there is none
  const { width, height } = bitmap, gl = new OffscreenCanvas(1, 1).getContext("webgl");
  if (!gl || Math.max(width, height) > gl.getParameter(gl.MAX_TEXTURE_SIZE)) return null;
  gl.bindTexture(gl.TEXTURE_2D, gl.createTexture());
  gl.pixelStorei(gl.UNPACK_COLORSPACE_CONVERSION_WEBGL, gl.NONE);
  gl.texImage2D(gl.TEXTURE_2D, 0, gl.RGBA, gl.RGBA, gl.UNSIGNED_BYTE, bitmap);
  gl.bindFramebuffer(gl.FRAMEBUFFER, gl.createFramebuffer());
  const texture = gl.getParameter(gl.TEXTURE_BINDING_2D);
  gl.framebufferTexture2D(gl.FRAMEBUFFER, gl.COLOR_ATTACHMENT0, gl.TEXTURE_2D, texture, 0);
  const data = new Uint8Array(4 * width * height);
  gl.readPixels(0, 0, width, height, gl.RGBA, gl.UNSIGNED_BYTE, data);
  const failed = gl.getError() !== gl.NO_ERROR;
  gl.getExtension("WEBGL_lose_context")?.loseContext();
  return failed ? null : data;
}

// What the network says of an image file, with the fields of predict.py.
async function predict(blob) {
  const { classes, size } = contract, needed = (height, width) => resampledSides(size, height, width);
  const own = async () => (await reduced(blob, needed)) ?? deepGrey(blob);
  const image = (await own().catch(() => null)) ?? (await decoded(blob)), whole = image.whole ?? image;
  const channels = contract.preprocess.color === "gray" ? 1 : 3;
  const place = fitted(flattened(image, channels), size, whole, image.part);
  const input = new ort.Tensor("uint8", place.pixels, [1, channels, size.height, size.width]);
  const answers = await session.run({ images: input });
  const picture = image.part ? blob : new ImageData(new Uint8ClampedArray(image.data), image.width);
  const found = { height: whole.height, width: whole.width, place, picture };
  if (answers.probabilities) {
    const shares = Array.from(answers.probabilities.data);
    found.top = shares.map((share, k) => [classes[k], share]).sort((a, b) => b[1] - a[1]);
  }
  if (answers.numbers) found.numbers = Array.from(answers.numbers.data, (value, k) => [classes[k], value]);
  if (answers.boxes) found.box = unfitted(Array.from(answers.boxes.data), whole, place);
  if (answers.masks) {
    const counts = new Array(classes.length).fill(0);
    for (const k of answers.masks.data) counts[k]++;
    found.mask = answers.masks.data;
    found.shares = counts.map((count, k) => [classes[k], count / found.mask.length]);
  }
  return found;
}

function unfitted(box, { width, height }, { left, top, scaleX, scaleY }) { // in pixels of the photo
  const [x1, y1, x2, y2] = box, clip = (value, side) => Math.min(Math.max(value, 0), side);
  return [
    clip((x1 - left) / scaleX, width), clip((y1 - top) / scaleY, height),
    clip((x2 - left) / scaleX, width), clip((y2 - top) / scaleY, height),
  ];
}

function colour(value) { // of Pascal VOC, as in Opsin's masks
  const rgb = [0, 0, 0];
  for (let place = 0; place < 8; place++) {
    for (let c = 0; c < 3; c++) rgb[c] |= ((value >> (3 * place + c)) & 1) << (7 - place);
  }
  return rgb;
}

function maskPicture(mask) { // as large as the network's input; class 0 is left out where it is the background
  const { height, width } = contract.size, picture = new ImageData(width, height);
  const hidden = contract.classes[0] === "background" ? 0 : -1;
  mask.forEach((k, index) => picture.data.set([...colour(k), k === hidden ? 0 : 255], 4 * index));
  const canvas = new OffscreenCanvas(width, height);
  canvas.getContext("2d").putImageData(picture, 0, 0);
  return canvas;
}

function draw() {
  const { bitmap, found } = shown, canvas = element("picture"), context = canvas.getContext("2d");
  const scale = SHOWN_PX / Math.max(bitmap.width, bitmap.height);
  [canvas.width, canvas.height] = [Math.round(bitmap.width * scale), Math.round(bitmap.height * scale)];
  context.scale(canvas.width / bitmap.width, canvas.height / bitmap.height); // from here on in pixels of the photo
  context.imageSmoothingEnabled = scale < 4;
  context.drawImage(bitmap, 0, 0);
  if (found.mask) {
    const { top, left, scaleX, scaleY } = found.place, { width, height } = contract.size;
    context.globalAlpha = element("opacity").value / 100;
    context.imageSmoothingEnabled = false;
    context.drawImage(maskPicture(found.mask), -left / scaleX, -top / scaleY, width / scaleX, height / scaleY);
    context.globalAlpha = 1;
  }
  if (found.box) {
    const [x1, y1, x2, y2] = found.box, line = LINE_PX / scale;
    for (const [style, width] of [["#000", 2 * line], ["#ffd400", line]]) {
      [context.strokeStyle, context.lineWidth] = [style, width];
      context.strokeRect(x1, y1, x2 - x1, y2 - y1);
    }
  }
  canvas.hidden = false;
  canvas.setAttribute("role", "img");
  canvas.setAttribute("aria-label", element("status").textContent);
  element("hint").hidden = true;
}

function bar(name, value, isShare, swatch) {
  const item = document.createElement("li"), label = document.createElement("span"), number = document.createElement("small");
  label.textContent = name;
  number.textContent = isShare ? `${(100 * value).toFixed(1)} %` : value.toPrecision(4);
  if (swatch) {
    const patch = document.createElement("i");
    patch.style.background = `rgb(${swatch.join(" ")})`;
    item.append(patch);
  }
  item.append(label, number);
  if (isShare) {
    const meter = document.createElement("meter");
    [meter.max, meter.value] = [1, value];
    meter.setAttribute("aria-label", name);
    item.append(meter);
  }
  return item;
}

function tell(found) {
  const rows = found.top ?? found.shares ?? found.numbers, isShare = !found.numbers;
  const sorted = isShare ? [...rows].sort((a, b) => b[1] - a[1]) : rows;
  const [name, value] = sorted[0];
  say(isShare ? `${name}: ${(100 * value).toFixed(1)} %` : `${name}: ${value.toPrecision(4)}`, "verdict");
  const bars = sorted.slice(0, NUM_BARS).filter(([, share]) => !found.mask || share > 0);
  element("bars").replaceChildren(
    ...bars.map(([label, share]) => bar(label, share, isShare, found.mask && colour(contract.classes.indexOf(label)))),
  );
  element("opacity-line").hidden = !found.mask;
}

async function show(blob) {
  if (!blob || !session) return;
  say("Working …");
  try {
    const found = await predict(blob);
    shown?.bitmap.close();
    shown = { bitmap: await createImageBitmap(found.picture), found };
    tell(found);
    draw();
  } catch (error) {
    element("bars").replaceChildren();
    say(`This file cannot be read as an image: ${error.message}`, "refusal");
  }
}

element("file").addEventListener("change", (event) => show(event.target.files[0]));
element("opacity").addEventListener("input", () => shown && draw());
for (const name of ["dragover", "dragleave", "drop"]) {
  document.addEventListener(name, (event) => {
    event.preventDefault();
    element("stage").classList.toggle("over", name === "dragover");
    if (name === "drop") show(event.dataTransfer.files[0]);
  });
}
start().catch((error) => say(error.message, "refusal"));
