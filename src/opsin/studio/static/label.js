// Labelling: classes by keyboard, boxes, masks. Each change is sent at once, one after another; what the files say is asked for again with each photo.
"use strict";

const VOID = 255;
const COLOURS = [[0, 114, 178], [230, 120, 0], [0, 150, 110], [200, 60, 140], [180, 150, 0], [90, 80, 200], [90, 170, 220], [160, 80, 30], [120, 130, 50], [110, 110, 110]];
const colourOf = (k) => COLOURS[k % COLOURS.length];
const KEPT = 30; // steps that can be undone
const QUIET_MS = 250; // a box that is moved key by key is sent after a pause
const STROKE_MS = 800; // a long stroke is sent so often while it is drawn
const AGAIN_MS = 2000; // what could not be sent is tried again
const clamp = (value, low, high) => Math.min(Math.max(value, low), high);

function labelling(root) {
  const part = (name) => $(`[data-${name}]`, root);
  const { label: kind, base, of, keys } = root.dataset;
  const total = Number(root.dataset.total);
  const image = part("photo"), sheet = part("sheet"), easel = part("easel");
  let classes = JSON.parse(root.dataset.classes);
  let number = -1, photo = null, ready = false, chosen = 0, undone = [], sent = Promise.resolve();
  const waiting = [], refused = new Set(); // changes that are not written yet, in their order; addresses whose last change was refused

  const address = (what, n = number) => `${base}/${n}${what ? `/${what}` : ""}?of=${of}`;
  const trouble = (error) => { part("trouble").textContent = error ? error.message : ""; };

  function send(what, body, n = number) {
    const where = address(what, n), last = waiting[waiting.length - 1];
    if (last && !last.begun && last.where === where) last.body = body; // each change says all of a photo: the newest is enough
    else {
      waiting.push({ where, body, begun: false });
      sent = sent.then(write);
    }
    return sent;
  }

  async function write() {
    const change = waiting[0];
    for (change.begun = true; change.begun;) {
      try {
        written(await post(change.where, change.body));
        refused.delete(change.where);
        change.begun = false;
      } catch (error) {
        if (error instanceof TypeError) { // the studio cannot be reached
          trouble(new Error("not saved yet: the studio does not answer; it is tried again"));
          await pause(AGAIN_MS);
        } else {
          trouble(error);
          refused.add(change.where);
          change.begun = false;
        }
      }
    }
    waiting.shift();
  }

  function written(told) {
    trouble(null);
    part("done").textContent = `${told.done.toLocaleString("en")} of ${told.total.toLocaleString("en")} photos`;
    $("[data-progress] progress", root).value = told.done;
    part("after").hidden = told.done === 0;
    root.dataset.next = told.next;
  }

  // a small change that is on its way outlives the page; what waits behind another, and a mask, does not
  const mayBeLost = () => refused.size > 0 || waiting.some((change) => !change.begun || change.body instanceof Blob);

  function remember(step) {
    undone = [...undone.slice(1 - KEPT), { number, ...step }];
    part("undo").disabled = false;
  }

  function tell() {
    const told = { labels: () => (photo.label < 0 ? "no label" : classes[photo.label]), boxes: () => `${photo.boxes.length} boxes`, masks: () => tool.words() };
    part("what").textContent = `Photo ${number + 1} of ${total}, ${photo.name}: ${told[kind]()}`;
    image.alt = `Photo ${number + 1} of ${total}: ${photo.name}`;
    $$("[data-class]", root).forEach((button, k) => button.setAttribute("aria-pressed", String(k === (kind === "labels" ? photo.label : chosen))));
  }

  async function open(n) {
    n = clamp(n, 0, total - 1);
    tool.flush();
    ready = false;
    delete easel.dataset.ready;
    number = n;
    await sent;
    try {
      const answer = await fetch(address(""), { headers: { Accept: "application/json" } });
      const told = await answer.json();
      if (!answer.ok) throw new Error([told.error.what, told.error.got, told.error.do].filter(Boolean).join(": "));
      if (n !== number) return;
      image.src = address("photo");
      await image.decode();
      if (n !== number) return;
      photo = told;
      sheet.style.setProperty("--ratio", told.width / told.height);
      image.classList.toggle("tiny", image.naturalWidth < 100);
      await tool.show();
      if (n !== number) return;
      trouble(null);
      tell();
      ready = true;
      easel.dataset.ready = String(n);
      if (n + 1 < total) new Image().src = address("photo", n + 1);
    } catch (error) {
      if (n === number) trouble(error);
    }
  }

  // --- classes
  function listClasses() {
    part("class-list").replaceChildren(...classes.map((name, k) => {
      const row = document.createElement("li"), button = document.createElement("button");
      const swatch = document.createElement("span"), words = document.createElement("span"), key = document.createElement("kbd");
      swatch.className = "swatch";
      swatch.style.background = `rgb(${colourOf(k)})`;
      words.textContent = name;
      key.textContent = keys[k] || "";
      button.type = "button";
      button.className = "quiet";
      button.dataset.class = k;
      button.setAttribute("aria-pressed", "false");
      button.append(swatch, words, key);
      button.addEventListener("click", () => pick(k));
      row.append(button);
      return row;
    }));
  }

  function pick(k) {
    if (!ready || k >= classes.length) return;
    if (kind !== "labels") chosen = k;
    tool.pick(k);
    tell();
  }

  part("add-class").addEventListener("submit", async (event) => {
    event.preventDefault();
    const field = event.target.elements.name;
    try {
      classes = (await post(`${base}/class`, new URLSearchParams({ name: field.value }))).classes;
      field.value = "";
      trouble(null);
      listClasses();
      if (photo) tell();
    } catch (error) {
      trouble(error);
    }
  });

  // --- a class for each photo
  function labels() {
    function set(label) {
      remember({ label: photo.label });
      send("label", new URLSearchParams({ label }));
      photo.label = label;
    }
    if (part("clear")) part("clear").addEventListener("click", () => { if (ready) { set(-1); tell(); } });
    return {
      show() {},
      flush() {},
      pick(k) { set(k); if (number + 1 < total) open(number + 1); },
      key(event) {
        if (event.key === "ArrowLeft") return open(number - 1);
        if (event.key === "ArrowRight") return open(number + 1);
        if (event.key === "Delete" || event.key === "Backspace") { set(-1); return tell(); }
        return false;
      },
      undo(step) { send("label", new URLSearchParams({ label: step.label }), step.number); },
    };
  }

  // --- boxes: [class, x, y, width, height] in pixels of the photo; each a button over it
  function boxes() {
    let buttons = [], timer = 0, before = null;
    const copy = () => photo.boxes.map((box) => [...box]);
    const at = () => buttons.indexOf(document.activeElement);

    function draw() {
      const held = at() >= 0;
      while (buttons.length > photo.boxes.length) buttons.pop().remove();
      if (held && at() < 0) easel.focus(); // keys are heard where the focus is
      while (buttons.length < photo.boxes.length) {
        const button = document.createElement("button"), grip = document.createElement("span");
        button.type = "button";
        button.className = "box";
        grip.className = "grip";
        button.append(document.createElement("span"), grip);
        button.addEventListener("focus", () => { part("delete-box").disabled = false; last = buttons.indexOf(button); });
        sheet.append(button);
        buttons.push(button);
      }
      photo.boxes.forEach(([k, x, y, width, height], i) => {
        const { style } = buttons[i];
        style.left = `${(100 * x) / photo.width}%`;
        style.top = `${(100 * y) / photo.height}%`;
        style.width = `${(100 * width) / photo.width}%`;
        style.height = `${(100 * height) / photo.height}%`;
        style.setProperty("--box", `rgb(${colourOf(k)})`);
        buttons[i].firstChild.textContent = classes[k];
        buttons[i].setAttribute("aria-label", `${classes[k]}: ${width} by ${height} px, at ${x}, ${y}`);
      });
      part("delete-box").disabled = !photo.boxes.length;
    }

    function commit() {
      if (!before) return;
      clearTimeout(timer);
      remember({ boxes: before });
      before = null;
      send("boxes", JSON.stringify(photo.boxes));
      tell();
    }

    function change(edit, pause = 0) {
      before = before || copy();
      edit();
      draw();
      clearTimeout(timer);
      if (pause) timer = setTimeout(commit, pause);
    }

    function moved(i, dx, dy) {
      const box = photo.boxes[i];
      box[1] = clamp(box[1] + dx, 0, photo.width - box[3]);
      box[2] = clamp(box[2] + dy, 0, photo.height - box[4]);
    }

    function sized(i, dx, dy) {
      const box = photo.boxes[i];
      box[3] = clamp(box[3] + dx, 1, photo.width - box[1]);
      box[4] = clamp(box[4] + dy, 1, photo.height - box[2]);
    }

    function add() {
      if (!ready) return;
      const width = Math.max(1, Math.round(photo.width / 2)), height = Math.max(1, Math.round(photo.height / 2));
      change(() => photo.boxes.push([chosen, Math.round((photo.width - width) / 2), Math.round((photo.height - height) / 2), width, height]));
      commit();
      buttons[buttons.length - 1].focus();
    }

    let last = -1;
    function remove(i) {
      if (!ready || i < 0 || i >= photo.boxes.length) return;
      change(() => photo.boxes.splice(i, 1));
      commit();
      (buttons[Math.min(i, buttons.length - 1)] || easel).focus();
    }

    const place = (event) => {
      const frame = sheet.getBoundingClientRect();
      return [
        clamp(Math.round(((event.clientX - frame.left) / frame.width) * photo.width), 0, photo.width),
        clamp(Math.round(((event.clientY - frame.top) / frame.height) * photo.height), 0, photo.height),
      ];
    };

    sheet.addEventListener("pointerdown", (event) => {
      if (!ready || event.button) return;
      event.preventDefault();
      commit();
      const start = place(event), i = buttons.indexOf(event.target.closest(".box"));
      const grip = event.target.classList.contains("grip"), from = copy();
      let drawn = i;
      const move = (to) => {
        const [x, y] = place(to), dx = x - start[0], dy = y - start[1];
        if (drawn < 0 && Math.abs(dx) + Math.abs(dy) < 3) return;
        change(() => {
          if (i < 0) {
            const box = [chosen, Math.min(x, start[0]), Math.min(y, start[1]), Math.max(1, Math.abs(dx)), Math.max(1, Math.abs(dy))];
            if (drawn < 0) drawn = photo.boxes.push(box) - 1;
            photo.boxes[drawn] = box;
            moved(drawn, 0, 0);
          } else {
            photo.boxes[i] = [...from[i]];
            (grip ? sized : moved)(i, dx, dy);
          }
        });
      };
      const end = () => {
        sheet.removeEventListener("pointermove", move);
        sheet.removeEventListener("pointerup", end);
        sheet.removeEventListener("pointercancel", end);
        commit();
        (buttons[drawn] || easel).focus();
      };
      sheet.setPointerCapture(event.pointerId);
      sheet.addEventListener("pointermove", move);
      sheet.addEventListener("pointerup", end);
      sheet.addEventListener("pointercancel", end);
    });
    part("new-box").addEventListener("click", add);
    part("delete-box").addEventListener("click", () => remove(last));
    return {
      show: draw,
      flush: commit,
      pick(k) {
        const i = at();
        if (i >= 0) { change(() => { photo.boxes[i][0] = k; }); commit(); }
      },
      key(event) {
        const i = at(), arrows = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };
        if (event.key === "n") return add();
        if (i < 0) return event.key === "ArrowLeft" ? open(number - 1) : event.key === "ArrowRight" ? open(number + 1) : false;
        if (event.key === "Delete" || event.key === "Backspace") return remove(i);
        if (event.key === "Escape") return easel.focus();
        if (!arrows[event.key]) return false;
        const step = event.altKey ? 1 : Math.max(1, Math.round(Math.max(photo.width, photo.height) / 100));
        return change(() => (event.shiftKey ? sized : moved)(i, ...arrows[event.key].map((sign) => sign * step)), QUIET_MS);
      },
      undo(step) { send("boxes", JSON.stringify(step.boxes), step.number); },
      pending() { return before && ["boxes", JSON.stringify(photo.boxes)]; },
    };
  }

  // --- masks: a class for each pixel of the photo as it is shown
  function masks() {
    const canvas = part("paint"), brush = document.createElement("div"), size = part("size");
    let values = null, cursor = [0, 0], erasing = false;
    brush.className = "brush";
    sheet.append(brush);
    canvas.hidden = false;
    const context = canvas.getContext("2d");

    function draw(left = 0, top = 0, right = canvas.width, bottom = canvas.height) {
      left = clamp(Math.floor(left), 0, canvas.width); right = clamp(Math.ceil(right), 0, canvas.width);
      top = clamp(Math.floor(top), 0, canvas.height); bottom = clamp(Math.ceil(bottom), 0, canvas.height);
      if (right <= left || bottom <= top) return;
      const part = context.createImageData(right - left, bottom - top);
      for (let y = top, i = 0; y < bottom; y += 1) {
        for (let x = left; x < right; x += 1, i += 4) {
          const k = values[y * canvas.width + x];
          if (k === VOID) continue;
          const [red, green, blue] = colourOf(k);
          part.data[i] = red; part.data[i + 1] = green; part.data[i + 2] = blue; part.data[i + 3] = 140;
        }
      }
      context.putImageData(part, left, top);
    }

    function stamp(x, y) {
      const radius = Number(size.value) / 2, k = erasing ? VOID : chosen;
      for (let row = Math.max(0, Math.ceil(y - radius)); row <= Math.min(canvas.height - 1, y + radius); row += 1) {
        const half = Math.sqrt(Math.max(0, radius * radius - (row - y) ** 2));
        const from = Math.max(0, Math.ceil(x - half)), to = Math.min(canvas.width - 1, Math.floor(x + half));
        if (to >= from) values.fill(k, row * canvas.width + from, row * canvas.width + to + 1);
      }
      draw(x - radius - 1, y - radius - 1, x + radius + 2, y + radius + 2);
    }

    function line([x0, y0], [x1, y1]) {
      const steps = Math.max(1, Math.ceil(Math.hypot(x1 - x0, y1 - y0) / Math.max(1, Number(size.value) / 4)));
      for (let i = 1; i <= steps; i += 1) stamp(x0 + ((x1 - x0) * i) / steps, y0 + ((y1 - y0) * i) / steps);
    }

    function showBrush() {
      brush.style.left = `${(100 * cursor[0]) / canvas.width}%`;
      brush.style.top = `${(100 * cursor[1]) / canvas.height}%`;
      brush.style.width = `${(100 * Number(size.value)) / canvas.width}%`;
      brush.classList.toggle("erasing", erasing);
      part("erase").setAttribute("aria-pressed", String(erasing));
    }

    function paint(strokes) {
      remember({ values: values.slice() });
      strokes();
    }

    let drawing = false, timer = 0;
    const commit = () => {
      clearTimeout(timer);
      timer = 0;
      send("mask", new Blob([values]));
      tell();
    };
    const end = () => {
      if (drawing) { drawing = false; commit(); }
    };
    const place = (event) => {
      const frame = sheet.getBoundingClientRect();
      return [((event.clientX - frame.left) / frame.width) * canvas.width, ((event.clientY - frame.top) / frame.height) * canvas.height];
    };

    sheet.addEventListener("pointerdown", (event) => {
      if (!ready || event.button) return;
      event.preventDefault();
      easel.focus();
      sheet.setPointerCapture(event.pointerId);
      drawing = true;
      cursor = place(event);
      paint(() => stamp(...cursor));
      showBrush();
    });
    sheet.addEventListener("pointermove", (event) => {
      if (!values) return;
      const to = place(event);
      if (drawing) {
        line(cursor, to);
        timer = timer || setTimeout(commit, STROKE_MS);
      }
      cursor = to;
      showBrush();
    });
    ["pointerup", "pointercancel"].forEach((name) => sheet.addEventListener(name, end));
    const erase = (on) => { erasing = on; showBrush(); };
    part("erase").addEventListener("click", () => erase(!erasing));
    part("fill").addEventListener("click", () => {
      if (!ready) return;
      paint(() => { values = values.map((k) => (k === VOID ? chosen : k)); draw(); });
      commit();
    });
    size.addEventListener("input", showBrush);
    const resize = (factor) => {
      size.value = Math.round(Number(size.value) * factor);
      size.dispatchEvent(new Event("input", { bubbles: true }));
    };
    return {
      async show() {
        const answer = await fetch(address("mask"));
        if (!answer.ok) throw new Error("the mask cannot be read");
        [canvas.width, canvas.height] = [Number(answer.headers.get("Mask-Width")), Number(answer.headers.get("Mask-Height"))];
        values = new Uint8Array(await answer.arrayBuffer());
        cursor = [canvas.width / 2, canvas.height / 2];
        draw();
        showBrush();
      },
      flush: end,
      words() {
        const painted = values.reduce((sum, k) => sum + (k !== VOID), 0);
        return `${Math.round((100 * painted) / values.length)} % painted`;
      },
      pick() { erase(false); },
      key(event) {
        const arrows = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };
        if (event.key === "e" || event.key === "b") return erase(event.key === "e");
        if (event.key === "+" || event.key === "-") return resize(event.key === "+" ? 1.25 : 0.8);
        if (event.key === " " && event.target === easel) { paint(() => stamp(...cursor)); return commit(); }
        if (!arrows[event.key]) return false;
        const step = Math.max(1, Number(size.value) / 2);
        cursor = cursor.map((value, i) => clamp(value + arrows[event.key][i] * step, 0, i ? canvas.height - 1 : canvas.width - 1));
        return showBrush();
      },
      undo(step) { send("mask", new Blob([step.values]), step.number); },
    };
  }

  const tool = { labels, boxes, masks }[kind]();

  function undo() {
    tool.flush();
    const step = undone.pop();
    if (!step) return;
    if (!undone.length && document.activeElement === part("undo")) easel.focus();
    part("undo").disabled = !undone.length;
    tool.undo(step);
    open(step.number);
  }

  root.addEventListener("keydown", (event) => {
    const field = event.target.matches("input, textarea, select");
    if (field || event.metaKey || (event.ctrlKey && event.key !== "z")) return;
    let done = true;
    if (event.key === "PageUp") open(number - 1);
    else if (event.key === "PageDown") open(number + 1);
    else if (event.key === "u" || event.key === "z" && event.ctrlKey) undo();
    else if (ready && keys.includes(event.key) && !event.altKey && keys.indexOf(event.key) < classes.length) pick(keys.indexOf(event.key));
    else done = ready && tool.key(event) !== false;
    if (done) event.preventDefault();
  });
  part("undo").addEventListener("click", undo);
  $$("[data-go]", root).forEach((button) => button.addEventListener("click", () => open(number + Number(button.dataset.go))));
  part("open").addEventListener("click", async () => {
    tool.flush();
    await sent;
    open(Number(root.dataset.next ?? root.dataset.start));
  });
  window.addEventListener("beforeunload", (event) => {
    if (kind === "masks") tool.flush();
    if (mayBeLost()) event.preventDefault();
  });
  window.addEventListener("pagehide", () => {
    const left = tool.pending && tool.pending();
    if (left) navigator.sendBeacon(address(left[0]), left[1]);
  });

  listClasses();
  open(Number(root.dataset.start));
  easel.focus();
}

document.addEventListener("DOMContentLoaded", () => $$("[data-label]").forEach(labelling));
