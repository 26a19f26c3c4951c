"use strict";
/* Corrections: dots, strokes, references, options and marks; previews while one works; the run. */
(() => {
  const { data, entries, hooks, el, $ } = Review;
  const SWATCHES = [
    ["#c68a6b", "skin"], ["#7a4a2f", "brown hair"], ["#6f8fc4", "sky"], ["#4f6f9a", "blue cloth"], ["#5f8048", "grass"], ["#37583a", "leaves"],
    ["#8a5a34", "wood"], ["#9a4a38", "brick"], ["#a02f2f", "red"], ["#c9a24a", "gold"], ["#b79e74", "straw"], ["#808080", "neutral grey"],
  ];
  const MODES = [["compare", "Compare"], ["dot", "Dot"], ["stroke", "Stroke"], ["pick", "Pick"]];
  let work = null;                          // what is being corrected
  let mode = "compare", size = 1;           // size: radius in hundredths of the short side

  async function ask(path, body, kind = "application/json") {
    const options = body === undefined ? {} : { method: "POST", headers: { "Content-Type": kind }, body: kind === "application/json" ? JSON.stringify(body) : body };
    const answer = await fetch(path, { ...options, referrerPolicy: "no-referrer", credentials: "omit" });
    if (!answer.ok) {
      let text = answer.statusText;
      try { text = (await answer.json()).error; } catch { /* no JSON */ }
      throw new Error(text);
    }
    return answer.headers.get("Content-Type") === "application/json" ? answer.json() : answer.blob();
  }

  const svg = (tag, attributes) => {
    const node = document.createElementNS("http://www.w3.org/2000/svg", tag);
    for (const [key, value] of Object.entries(attributes)) node.setAttribute(key, value);
    return node;
  };

  function say(text, bad = false) {
    if (!work) return;
    work.message.textContent = text;
    work.message.classList.toggle("bad", bad);
  }

  /* Points as the server takes them, and marks of points: those of a stroke follow each other closely. */
  const flat = (marks) => marks.flatMap((mark) => mark.points.map(([x, y]) => ({ x: Math.round(10 * x) / 10, y: Math.round(10 * y) / 10, colour: mark.colour, radius: Math.max(0.1, Math.round(10 * mark.radius) / 10) })));
  function marksOf(points, usual) {
    const marks = [];
    for (const { x, y, colour, radius = usual } of points) {
      const last = marks.at(-1), end = last?.points.at(-1);
      if (last && last.colour === colour && last.radius === radius && Math.hypot(x - end[0], y - end[1]) <= 1.05 * radius) last.points.push([x, y]);
      else marks.push({ colour, radius, points: [[x, y]] });
    }
    return marks;
  }

  function draw() {
    const { layer, marks, list, width } = work;
    const px = width / Math.max(work.figure.clientWidth, 1);    // a pixel of the screen, in those of the picture
    layer.replaceChildren(...marks.map((mark, number) => {
      const group = svg("g", { class: `dot${work.chosen === number ? " chosen" : ""}`, tabindex: 0, role: "button", "aria-label": `${mark.points.length > 1 ? "Stroke" : "Dot"} ${number + 1}, ${mark.colour}; arrow keys move it, Delete removes it` });
      const [x, y] = mark.points[0];
      const seen = Math.max(mark.radius, 6 * px);
      if (mark.points.length > 1) group.append(svg("polyline", { points: mark.points.map((point) => point.join(",")).join(" "), fill: "none", stroke: mark.colour, "stroke-width": 2 * mark.radius, "stroke-linecap": "round", "stroke-linejoin": "round", opacity: 0.85 }));
      group.append(svg("circle", { cx: x, cy: y, r: Math.max(seen, 16 * px), fill: "transparent" }),      // for fingers
        svg("circle", { cx: x, cy: y, r: seen, fill: "none", class: "rim", "stroke-width": 4 * px }),
        svg("circle", { cx: x, cy: y, r: seen, fill: mark.colour, "stroke-width": 2 * px }));
      group.addEventListener("pointerdown", (event) => drag(event, number));
      group.addEventListener("focus", () => choose(number, false));
      group.addEventListener("keydown", (event) => nudge(event, number));
      return group;
    }));
    list.replaceChildren(...marks.map((mark, number) => {
      const blob = el("span", { class: "blob", "aria-hidden": "true" });
      blob.style.background = mark.colour;
      return el("li", {}, blob, el("span", {}, `${mark.points.length > 1 ? "Stroke" : "Dot"} ${number + 1}`),
        el("button", { type: "button", "aria-label": `Remove ${number + 1}`, onclick: () => remove(number) }, "Remove"));
    }));
    work.clear.disabled = !marks.length;
    work.save.disabled = !work.changed;
  }

  function choose(number, redraw = true) {
    work.chosen = number;
    work.tuned = true;
    if (number != null) work.wheel.setHex(work.marks[number].colour, true);
    if (redraw) draw();
    else [...work.layer.children].forEach((group, each) => group.classList.toggle("chosen", each === number));
  }

  function change() {
    work.changed = true;
    draw();
    preview();
  }

  function remove(number) {
    work.marks.splice(number, 1);
    work.chosen = null;
    change();
  }

  function at(event) {
    const box = work.figure.getBoundingClientRect();
    const clip = (value, most) => Math.max(0, Math.min(most, value));
    return [clip((event.clientX - box.left) / box.width * work.width, work.width - 1), clip((event.clientY - box.top) / box.height * work.height, work.height - 1)];
  }

  function pixel([x, y]) {
    const image = work.figure.top;
    const canvas = el("canvas", { width: 1, height: 1 });
    const context = canvas.getContext("2d");
    const sx = x / work.width * image.naturalWidth, sy = y / work.height * image.naturalHeight;
    context.drawImage(image, Math.max(0, sx - 2), Math.max(0, sy - 2), 5, 5, 0, 0, 1, 1);
    return [...context.getImageData(0, 0, 1, 1).data].slice(0, 3);
  }

  const radius = () => size * Math.min(work.width, work.height) / 100;

  function addDot(point) {
    work.marks.push({ colour: work.wheel.hex(), radius: radius(), points: [point] });
    work.chosen = work.marks.length - 1;
    work.tuned = false;
    change();
  }

  /* A colour for what comes next, or for the dot that was chosen; the dot that was just set keeps its own. */
  function take(hex) {
    if (!work.tuned) work.chosen = null;
    work.wheel.setHex(hex);
    draw();
  }

  function drag(event, number) {
    if (mode !== "dot" || event.button !== 0) return;
    event.stopPropagation();
    event.preventDefault();
    const from = at(event), mark = work.marks[number], points = mark.points;
    choose(number);
    const moved = (each) => {
      const [x, y] = at(each);
      mark.points = points.map((point) => [point[0] + x - from[0], point[1] + y - from[1]]);
      work.changed = true;
      draw();
    };
    const up = () => { removeEventListener("pointermove", moved); removeEventListener("pointerup", up); if (mark.points !== points) preview(); };
    addEventListener("pointermove", moved);
    addEventListener("pointerup", up);
  }

  function nudge(event, number) {
    const by = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] }[event.key];
    const mark = work.marks[number];
    if (event.key === "Delete" || event.key === "Backspace") remove(number);
    else if (by) {
      const step = Math.min(work.width, work.height) * (event.shiftKey ? 0.05 : 0.01);
      mark.points = mark.points.map(([x, y]) => [x + by[0] * step, y + by[1] * step]);
      change();
      work.layer.children[number].focus();
    } else return;
    event.stopPropagation();
    event.preventDefault();
  }

  function press(event) {
    if (mode === "compare" || event.button !== 0) return;
    event.preventDefault();
    const point = at(event);
    if (mode === "pick" || event.altKey) {
      const rgb = pixel(point);
      take("#" + rgb.map((value) => value.toString(16).padStart(2, "0")).join(""));
      setMode("dot");
      return;
    }
    if (mode === "dot") { addDot(point); return; }
    const mark = { colour: work.wheel.hex(), radius: radius(), points: [point] };
    work.marks.push(mark);
    work.chosen = work.marks.length - 1;
    work.tuned = false;
    const moved = (each) => {
      const [x, y] = at(each);
      for (;;) {                            // no two points farther apart than a radius
        const [ax, ay] = mark.points.at(-1), far = Math.hypot(x - ax, y - ay);
        if (far < mark.radius || mark.points.length > 800) break;
        mark.points.push([ax + (x - ax) / far * mark.radius, ay + (y - ay) / far * mark.radius]);
      }
      draw();
    };
    const up = () => { removeEventListener("pointermove", moved); removeEventListener("pointerup", up); change(); };
    addEventListener("pointermove", moved);
    addEventListener("pointerup", up);
    draw();
  }

  function setMode(name) {
    mode = name;
    if (!work) return;
    work.figure.classList.toggle("editing", name !== "compare");
    for (const button of work.modes.children) button.setAttribute("aria-pressed", String(button.value === name));
  }

  /* Previews: one at a time, and only the latest counts. */
  let waiting = false, asking = false;
  function preview() {
    waiting = true;
    if (!asking) setTimeout(next, 120);
  }
  async function next() {
    if (!waiting || asking || !work) return;
    waiting = false; asking = true;
    const mine = work;
    mine.figure.classList.add("busy");
    try {
      const blob = await ask("preview", request(mine));
      if (work === mine) {
        URL.revokeObjectURL(mine.address);
        mine.address = URL.createObjectURL(blob);
        mine.figure.top.src = mine.address;
        mine.figure.dataset.previews = Number(mine.figure.dataset.previews || 0) + 1;
        if (mine.changed && !mine.message.classList.contains("bad")) say("Preview; not saved yet.");
      }
    } catch (error) { if (work === mine) say(error.message, true); }
    mine.figure.classList.remove("busy");
    asking = false;
    if (waiting) next();
  }

  const request = (each) => ({ version: data.version, entry: each.number, ...(each.frame == null ? {} : { frame: each.frame }), points: flat(each.marks), options: each.options });

  async function save(each = work) {
    if (!each || !each.changed) return;
    each.changed = false;
    each.save.disabled = true;
    try {
      const result = await ask("save", request(each));
      each.entry.corrected = result.corrected || Object.keys(each.options).length > 0;
      if (work === each) say(result.path ? `Saved to ${result.path}` : "Saved.");
      refreshCard(each.entry);
      pending = true;
      runBar();
    } catch (error) {
      each.changed = true;
      if (work === each) { say(error.message, true); each.save.disabled = false; }
      else alertBar(error.message);
    }
  }

  function option(name, label, most, usual) {
    const given = work.options[name];
    const output = el("output", {}, given == null ? "as before" : given.toFixed(2));
    const range = el("input", { type: "range", min: 0, max: most, step: 0.05, value: given ?? usual, "aria-label": label, oninput: () => {
      work.options = { ...work.options, [name]: Number(range.value) };
      output.textContent = Number(range.value).toFixed(2);
      reset.disabled = false;
      change();
    } });
    const reset = el("button", { type: "button", class: "small", disabled: given == null, onclick: () => {
      const { [name]: _, ...rest } = work.options;
      work.options = rest;
      output.textContent = "as before";
      reset.disabled = true;
      change();
    } }, "Reset");
    return el("div", {}, el("label", { class: "slider" }, label, output, range), reset);
  }

  async function putReference(file) {
    if (!file || !work) return;
    const mine = work, tail = mine.frame == null ? "" : `/${mine.frame}`;
    try {
      const result = await ask(`reference/${data.version}/${mine.number}${tail}`, file, "application/octet-stream");
      mine.entry.corrected = true;
      mine.referenced(result.path);
      if (work === mine) { say("The reference is saved, and is used by the next run."); preview(); }
      refreshCard(mine.entry);
      pending = true;
      runBar();
    } catch (error) { if (work === mine) say(error.message, true); }
  }

  function referencePart(path) {
    const input = el("input", { type: "file", accept: "image/*", class: "unseen", onchange: () => putReference(input.files[0]) });
    const text = el("span");
    const drop = el("label", { class: "drop" }, input, text);
    const removeIt = el("button", { type: "button", class: "small", onclick: async () => {
      const mine = work;
      try {
        await ask("remove-reference", { version: data.version, entry: mine.number, ...(mine.frame == null ? {} : { frame: mine.frame }) });
        mine.referenced(null);
        if (work === mine) { say("The reference is removed."); preview(); }
        pending = true;
        runBar();
      } catch (error) { if (work === mine) say(error.message, true); }
    } }, "Remove the reference");
    for (const name of ["dragenter", "dragover"]) drop.addEventListener(name, (event) => { event.preventDefault(); drop.classList.add("over"); });
    for (const name of ["dragleave", "drop"]) drop.addEventListener(name, (event) => { event.preventDefault(); drop.classList.remove("over"); });
    drop.addEventListener("drop", (event) => putReference(event.dataTransfer.files[0]));
    work.referenced = (found) => {
      text.textContent = found ? `Reference: ${found.split(/[\\/]/).at(-1)}. Drop another one here, or click.` : "Drop a coloured picture of the same thing here, or click.";
      removeIt.hidden = !found;
    };
    work.referenced(path);
    return el("section", {}, el("h3", {}, "Reference"), drop, el("div", { class: "actions" }, removeIt));
  }

  function good(entry) {
    const button = el("button", { type: "button", class: "good", "aria-pressed": String(Boolean(entry.good)), onclick: async () => {
      try {
        entry.good = (await ask("mark", { version: data.version, entry: entries.indexOf(entry), good: !entry.good })).good;
        button.setAttribute("aria-pressed", String(entry.good));
        button.textContent = entry.good ? "Good" : "Mark as good";
        refreshCard(entry);
      } catch (error) { say(error.message, true); }
    } }, entry.good ? "Good" : "Mark as good");
    return button;
  }

  async function open(entry, figure, side, stage, frame = null) {
    const number = entries.indexOf(entry);
    const mine = { entry, number, figure, marks: [], options: {}, chosen: null, changed: false, frame };
    work = mine;
    const panel = el("section", { class: "correct", "aria-label": "Correct the colours" }, el("p", { class: "hint" }, "Loading\u2026"));
    side.querySelector(".correct")?.remove();
    side.prepend(panel);
    let state;
    try {
      state = await ask(`state/${data.version}/${number}${frame == null ? "" : `/${frame}`}`);
    } catch (error) {
      panel.replaceChildren(el("p", { class: "message bad" }, error.message), el("div", { class: "actions" }, good(entry)));
      return;
    }
    if (work !== mine) return;
    Object.assign(mine, { width: state.width, height: state.height, frame: state.frame, options: state.options });
    mine.marks = marksOf(state.points, Math.max(1, Math.min(state.width, state.height) / 100));
    mine.layer = svg("svg", { class: "marks", viewBox: `0 0 ${state.width} ${state.height}`, preserveAspectRatio: "none" });
    figure.querySelector(".marks")?.remove();
    figure.append(mine.layer);
    if (!figure.corrects) { figure.corrects = true; figure.addEventListener("pointerdown", (event) => { if (work?.figure === figure) press(event); }); }
    mine.message = el("p", { class: "message", role: "status" });
    mine.list = el("ul", { class: "list", "aria-label": "Dots and strokes" });
    mine.save = el("button", { type: "button", class: "primary", onclick: () => save() }, "Save");
    mine.clear = el("button", { type: "button", class: "small", onclick: () => { work.marks = []; work.chosen = null; change(); } }, "Remove all");
    mine.modes = el("div", { class: "modes", role: "group", "aria-label": "What a click on the picture does" },
      ...MODES.map(([value, text]) => el("button", { type: "button", value, "aria-pressed": "false", onclick: () => setMode(value) }, text)));
    mine.wheel = Wheel.create(el, (hex) => {
      for (const button of swatches.children) button.setAttribute("aria-pressed", String(button.value === hex));
      if (work.chosen != null && work.marks[work.chosen]) { work.marks[work.chosen].colour = hex; change(); }
    });
    const swatches = el("div", { class: "swatches", role: "group", "aria-label": "Usual colours" }, ...SWATCHES.map(([value, text]) => {
      const button = el("button", { type: "button", value, title: text, "aria-label": text, "aria-pressed": "false", onclick: () => { take(value); if (mode === "compare") setMode("dot"); } });
      button.style.background = value;
      return button;
    }));
    const sizes = el("input", { type: "range", min: 0.3, max: 6, step: 0.1, value: size, "aria-label": "Size of dots and strokes", oninput: (event) => { size = Number(event.target.value); } });
    panel.replaceChildren(...[
      mine.modes,
      state.drawn && el("p", { class: "message bad" }, `${state.drawn} was drawn by hand and comes first; remove it to set points here.`),
      el("p", { class: "hint" }, "Choose a colour, then click on what has it. Only its hue and strength count; grey says: leave this neutral."),
      swatches, mine.wheel.node,
      el("label", { class: "slider" }, "Size", sizes),
      mine.list,
      el("div", { class: "actions" }, mine.save, good(entry)),
      mine.message,
      el("div", { class: "actions" },
        el("button", { type: "button", class: "small add", onclick: () => { setMode("dot"); addDot([mine.width / 2, mine.height / 2]); mine.layer.lastChild.focus(); } }, "Dot in the middle"), mine.clear),
      el("details", { class: "section" }, el("summary", {}, entry.shot ? "Options of this shot" : "Options of this picture"), option("saturation", "Saturation", 2, 1), option("vividness", "Vividness", 1, 0.5)),
      referencePart(state.reference),
    ].filter(Boolean));
    setMode(mode);
    draw();
    if (mine.marks.length || Object.keys(mine.options).length || state.reference || state.drawn) preview();
  }

  hooks.view.push((entry, figure, side, stage) => {
    save();
    for (const [number, button] of [...stage.querySelectorAll(".three button")].entries()) {
      button.addEventListener("click", () => {
        save();
        const frames = [entry.first, entry.first + Math.floor(entry.length / 2), entry.first + entry.length - 1];
        open(entry, figure, side, stage, entry.first == null ? null : frames[number]);
      });
    }
    open(entry, figure, side, stage);
  });
  $("viewer").addEventListener("close", () => { save(); work = null; });

  /* Cards: what is good, and what has been corrected. */
  function badges(item, entry) {
    item.classList.toggle("is-good", Boolean(entry.good));
    item.querySelectorAll(".badge").forEach((each) => each.remove());
    const chips = item.querySelector(".chips");
    if (entry.good) chips.append(el("li", { class: "chip good badge" }, "good"));
    if (entry.corrected) chips.append(el("li", { class: "chip badge" }, "corrected"));
  }
  hooks.card.push(badges);
  function refreshCard(entry) {
    const item = [...$("grid").children].find((each) => each.entry === entry);
    if (item) badges(item, entry);
  }
  hooks.matches.open = (entry) => !entry.good;
  hooks.matches.corrected = (entry) => entry.corrected;
  for (const [value, text] of [["open", "Not marked as good"], ["corrected", "Corrected"]]) $("only").append(el("option", { value }, text));

  hooks.keys.push((event) => {
    if (event.key === "g") {
      const button = $("viewer").open ? $("side").querySelector("button.good") : null;
      if (button) button.click();
      return Boolean(button);
    }
    if (!$("viewer").open || !work) return false;
    const modes = { d: "dot", s: "stroke", c: "compare", i: "pick" };
    if (modes[event.key]) { setMode(modes[event.key]); return true; }
    if (event.key === "z" && work.marks.length) { remove(work.marks.length - 1); return true; }
    return false;
  });
  $("keylist").append(...[["d s c i", "dot, stroke, compare, pick a colour from the picture"], ["z", "remove the last dot or stroke"], ["g", "mark as good"]].map(([keys, text]) =>
    el("div", {}, el("dt", {}, ...keys.split(" ").flatMap((key) => [el("kbd", {}, key), " "])), el("dd", {}, text))));

  /* The run */
  let pending = false, bar = null, timer = 0;
  function alertBar(text) { runBar(); bar.querySelector(".what").textContent = text; }
  async function runBar() {
    if (!bar) {
      bar = el("div", { class: "runbar", role: "status" }, el("div", {}, el("span", { class: "what" }), el("pre", { hidden: true })), el("button", { type: "button", class: "primary" }));
      document.body.append(bar);
      $("viewer").append(bar);
    }
    ($("viewer").open ? $("viewer") : document.body).append(bar);
    const state = await ask("run");
    const what = bar.querySelector(".what"), lines = bar.querySelector("pre"), button = bar.querySelector("button");
    bar.hidden = !pending && ["idle", "unknown"].includes(state.state);
    lines.hidden = !state.lines.length;
    lines.textContent = state.lines.slice(-5).join("\n");
    if (state.state === "running") {
      what.textContent = "Running\u2026";
      button.hidden = true;
      clearTimeout(timer);
      timer = setTimeout(runBar, 700);
    } else if (state.state === "done" && !pending) {
      what.textContent = "Done.";
      button.hidden = false;
      button.textContent = "Show the new files";
      button.onclick = () => location.reload();
    } else {
      what.textContent = state.state === "failed" ? "The run failed." : "Corrections are saved. A run does again what they touch.";
      button.hidden = state.command == null;
      button.textContent = "Run";
      button.title = state.command || "";
      button.onclick = async () => {
        try { await ask("run", {}); pending = false; runBar(); } catch (error) { what.textContent = error.message; }
      };
    }
  }
  $("viewer").addEventListener("close", () => { if (bar) document.body.append(bar); });
  addEventListener("beforeunload", (event) => { if (work?.changed) event.preventDefault(); });
  if (data.run.state !== "idle") runBar();
})();
