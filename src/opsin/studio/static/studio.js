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
  const answer = await fetch(address, { method: "POST", body, headers: { Accept: "application/json" } });
  const told = await answer.json();
  if (!answer.ok) throw new Error([told.error.what, told.error.got, told.error.do].filter(Boolean).join(": "));
  return told;
}

// a folder of pictures: one request for each few files, so that no request is large
const PICTURE = /\.(jpe?g|png|webp|bmp|gif|ppm|pgm)$/i;
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
    await post(`/uploads/${made.id}/finish`, new URLSearchParams());
    if (refused.length) window.alert(`${refused.length} files were left out: ${refused.slice(0, 5).join("; ")}`);
    window.location.assign(`/data/${made.key}`);
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
