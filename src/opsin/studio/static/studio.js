// The studio's one script: what HTML and htmx cannot do alone, which is files, the camera and sliders' numbers.
"use strict";

const $ = (selector, root = document) => root.querySelector(selector);
const $$ = (selector, root = document) => [...root.querySelectorAll(selector)];

// the number beside a slider
document.addEventListener("input", (event) => {
  const output = event.target.id && $(`output[for="${CSS.escape(event.target.id)}"]`);
  if (output) output.value = event.target.value;
});

// small pictures keep their pixels
document.addEventListener("load", (event) => {
  const image = event.target;
  if (image.tagName === "IMG" && image.naturalWidth < 100) image.classList.add("tiny");
}, true);

// a tile opens large, in a dialog that Escape closes
document.addEventListener("click", (event) => {
  const link = event.target.closest("a[data-large]");
  if (!link || event.ctrlKey || event.metaKey) return;
  event.preventDefault();
  const dialog = document.createElement("dialog");
  const image = document.createElement("img");
  const words = document.createElement("p");
  const close = document.createElement("button");
  image.src = link.href;
  image.alt = words.textContent = $("img", link).alt;
  close.textContent = "Close";
  close.addEventListener("click", () => dialog.close());
  dialog.addEventListener("close", () => { dialog.remove(); link.focus(); });
  dialog.append(image, words, close);
  document.body.append(dialog);
  dialog.showModal();
});

async function post(address, body) {
  const keepalive = typeof body === "string" || body instanceof URLSearchParams; // small ones outlive the page
  const answer = await fetch(address, { method: "POST", body, keepalive, headers: { Accept: "application/json" } });
  const told = await answer.json();
  if (!answer.ok) throw new Error([told.error.what, told.error.got, told.error.do].filter(Boolean).join(": "));
  return told;
}

// a folder of pictures: one request for each few files, so that no request is large
const PICTURE = /\.(jpe?g|png|webp|bmp|gif|ppm|pgm|tiff?|avif|hei[cf])$/i;
const FEW = 24;
const FEW_BYTES = 12e6;

function* portions(files) {
  let portion = [], bytes = 0;
  for (const file of files) {
    if (portion.length && (portion.length >= FEW || bytes + file.size > FEW_BYTES)) {
      yield portion;
      portion = [];
      bytes = 0;
    }
    portion.push(file);
    bytes += file.size;
  }
  if (portion.length) yield portion;
}

async function upload(form) {
  const status = $("[data-status]", form), bar = $("progress", form), button = $("button", form);
  const files = [...form.elements.files.files].filter((file) => PICTURE.test(file.name));
  const classes = new Map();
  for (const file of files) {
    const folders = file.webkitRelativePath.split("/");
    const name = folders.length > 1 ? folders[folders.length - 2] : "";
    classes.set(name, [...(classes.get(name) || []), file]);
  }
  button.disabled = true;
  bar.hidden = false;
  try {
    const name = form.elements.name.value || (files[0] ? files[0].webkitRelativePath.split("/")[0] : "");
    const made = await post("/uploads", new URLSearchParams({ name }));
    let done = 0, refused = [];
    for (const [label, members] of classes) {
      for (const portion of portions(members)) {
        const body = new FormData();
        for (const file of portion) body.append("pictures", file, file.name);
        const told = await post(`/uploads/${made.id}?class=${encodeURIComponent(label)}`, body);
        refused = refused.concat(told.refused);
        done += portion.length;
        bar.value = done / files.length;
        status.textContent = `${done} of ${files.length} pictures`;
      }
    }
    const set = await post(`/uploads/${made.id}/finish`, new URLSearchParams());
    if (refused.length) window.alert(`${refused.length} files were left out: ${refused.slice(0, 5).join("; ")}`);
    window.location.assign(`/data/${set.key}`);
  } catch (error) {
    status.textContent = error.message;
    button.disabled = false;
  }
}

document.addEventListener("submit", (event) => {
  if (event.target.matches("form[data-upload]")) {
    event.preventDefault();
    upload(event.target);
  }
});

// --- the camera: one stream for a page, drawn small before it is sent
const SENT_PX = 320;

async function cameraOn(root) {
  const video = $("[data-camera]", root);
  const stream = await navigator.mediaDevices.getUserMedia({ video: { width: 640, height: 480 }, audio: false });
  video.srcObject = stream;
  await video.play();
  video.hidden = false;
  const hint = $("[data-hint]", root);
  if (hint) hint.hidden = true;
  return video;
}

function cameraOff(video) {
  if (video.srcObject) video.srcObject.getTracks().forEach((track) => track.stop());
  video.srcObject = null;
  video.hidden = true;
}

function frameOf(video) {
  const factor = Math.min(1, SENT_PX / Math.max(video.videoWidth, video.videoHeight));
  const canvas = document.createElement("canvas");
  canvas.width = Math.round(video.videoWidth * factor);
  canvas.height = Math.round(video.videoHeight * factor);
  canvas.getContext("2d").drawImage(video, 0, 0, canvas.width, canvas.height);
  return new Promise((done) => canvas.toBlob(done, "image/jpeg", 0.92));
}

const pause = (ms) => new Promise((done) => setTimeout(done, ms));

// --- try it
function tryOut(root) {
  const part = (name) => $(`[data-${name}]`, root);
  const base = root.dataset.try;
  let last = null, live = false;

  function meters(top) {
    part("meters").replaceChildren(...top.map(([label, share]) => {
      const row = document.createElement("li"), name = document.createElement("span");
      const value = document.createElement("span"), bar = document.createElement("progress");
      name.textContent = label;
      value.textContent = `${(100 * share).toFixed(1)} %`;
      bar.max = 1;
      bar.value = share;
      bar.setAttribute("aria-label", label);
      row.append(name, value, bar);
      return row;
    }));
  }

  async function ask(blob) {
    last = blob;
    part("explain").disabled = false;
    try {
      const said = await post(`${base}/predict`, blob);
      part("trouble").textContent = "";
      const words = said.caption || said.label;
      if (part("verdict").textContent !== words) part("verdict").textContent = words;
      meters(said.top);
      if (said.picture) why(said.picture, said.caption);
    } catch (error) {
      part("trouble").textContent = error.message;
    }
  }

  function why(picture, words) {
    const figure = part("why");
    figure.hidden = false;
    $("img", figure).src = picture;
    $("img", figure).alt = words;
    $("figcaption", figure).textContent = words;
  }

  function show(blob) {
    stop();
    const image = part("seen");
    if (image.src) URL.revokeObjectURL(image.src);
    image.src = URL.createObjectURL(blob);
    image.hidden = false;
    part("hint").hidden = true;
    part("why").hidden = true;
    ask(blob);
  }

  function stop() {
    live = false;
    cameraOff(part("camera"));
    part("camera-button").setAttribute("aria-pressed", "false");
    part("camera-button").textContent = "Camera";
  }

  async function watch() {
    part("seen").hidden = true;
    part("why").hidden = true;
    try {
      const video = await cameraOn(root);
      live = true;
      part("camera-button").setAttribute("aria-pressed", "true");
      part("camera-button").textContent = "Camera off";
      while (live) {
        await ask(await frameOf(video));
        await pause(60);
      }
    } catch (error) {
      part("trouble").textContent = `no camera: ${error.message}`;
    }
  }

  part("camera-button").addEventListener("click", () => (live ? stop() : watch()));
  part("explain").addEventListener("click", async () => {
    part("explain").disabled = true;
    try {
      const told = await post(`${base}/explain`, last);
      why(told.picture, `${told.words}: orange is what the answer depends on`);
    } catch (error) {
      part("trouble").textContent = error.message;
    }
    part("explain").disabled = false;
  });
  $("input[type=file]", root).addEventListener("change", (event) => event.target.files[0] && show(event.target.files[0]));
  const stage = part("stage");
  ["dragover", "dragenter"].forEach((kind) => document.addEventListener(kind, (event) => { event.preventDefault(); stage.classList.add("over"); }));
  ["dragleave", "drop"].forEach((kind) => document.addEventListener(kind, () => stage.classList.remove("over")));
  document.addEventListener("drop", (event) => {
    event.preventDefault();
    if (event.dataTransfer.files[0]) show(event.dataTransfer.files[0]);
  });
  document.addEventListener("paste", (event) => {
    const file = [...event.clipboardData.files].find((one) => one.type.startsWith("image/"));
    if (file) show(file);
  });
}

// --- teach
const LEAST = 10;

function teach(root) {
  const part = (name) => $(`[data-${name}]`, root);
  const collected = [[], [], []];
  let video = null, recording = null;

  function counts() {
    collected.forEach((blobs, i) => { $(`[data-count="${i}"]`, root).value = blobs.length; });
    part("learn").disabled = collected.some((blobs) => blobs.length < LEAST);
  }

  async function record(i) {
    if (!video || recording !== null) return;
    recording = i;
    $(`[data-record="${i}"]`, root).classList.add("on");
    while (recording === i) {
      const small = $(`[data-last="${i}"]`, root);
      small.getContext("2d").drawImage(video, 0, 0, small.width, small.height);
      collected[i].push(await frameOf(video));
      counts();
      await pause(120);
    }
  }

  function stop() {
    recording = null;
    $$("[data-record]", root).forEach((button) => button.classList.remove("on"));
  }

  $$("[data-record]", root).forEach((button) => {
    const i = Number(button.dataset.record);
    button.disabled = true;
    button.addEventListener("pointerdown", () => record(i));
    button.addEventListener("keydown", (event) => { if ((event.key === " " || event.key === "Enter") && !event.repeat) record(i); });
    // of its own recording alone: a press on one button takes the focus from the one before
    ["pointerup", "pointerleave", "pointercancel", "keyup", "blur"].forEach((kind) => button.addEventListener(kind, () => { if (recording === i) stop(); }));
  });
  part("camera-button").addEventListener("click", async () => {
    try {
      video = await cameraOn(root);
      part("camera-button").disabled = true;
      $$("[data-record]", root).forEach((button) => { button.disabled = false; });
    } catch (error) {
      part("status").textContent = `no camera: ${error.message}`;
    }
  });
  part("forget").addEventListener("click", () => { collected.forEach((blobs) => blobs.splice(0)); counts(); });
  part("learn").addEventListener("click", async () => {
    part("learn").disabled = true;
    try {
      const made = await post("/uploads", new URLSearchParams({ name: "webcam" }));
      for (let i = 0; i < collected.length; i += 1) {
        const label = $(`#t-${i}`, root).value || `thing ${i + 1}`;
        for (let from = 0; from < collected[i].length; from += FEW) {
          const body = new FormData();
          collected[i].slice(from, from + FEW).forEach((blob, k) => body.append("pictures", blob, `${from + k}.jpg`));
          await post(`/uploads/${made.id}?class=${encodeURIComponent(label)}`, body);
        }
        part("status").textContent = `sent ${i + 1} of ${collected.length} things`;
      }
      const set = await post(`/uploads/${made.id}/finish`, new URLSearchParams());
      cameraOff(video);
      const run = await post("/teach", new URLSearchParams({ data: set.key }));
      window.location.assign(run.address);
    } catch (error) {
      part("status").textContent = error.message;
      counts();
    }
  });
}

document.addEventListener("DOMContentLoaded", () => {
  $$("[data-try]").forEach(tryOut);
  $$("[data-teach]").forEach(teach);
});
