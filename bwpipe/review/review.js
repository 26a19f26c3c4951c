"use strict";
/* The page: cards with a slider, made as they come near; a viewer; filter, order, keys.

   Data: {title, live, files: [{name, href, film, options, warnings}], failed: [{name, text}], gone,
   entries: [{file, shot, after, before, frames, loop, count, size, doubt, drift, flicker, confidence, first, length, start, seconds, kept}]}.
   An image is a path, or the number of an embedded one or of one in `images`. */
const Review = (() => {
  const data = JSON.parse(document.getElementById("data").textContent);
  const entries = data.entries;
  const films = data.files.some((file) => file.film);
  const BATCH = 60;
  const still = matchMedia("(prefers-reduced-motion: reduce)");
  const $ = (id) => document.getElementById(id);
  const hooks = { view: [], card: [], keys: [], matches: {} };
  let shown = [], made = 0, current = -1, loops = new Map();

  /* el("p", {class: "dim"}, "text", node): texts are texts, never HTML. */
  function el(tag, attributes = {}, ...children) {
    const node = document.createElement(tag);
    for (const [key, value] of Object.entries(attributes)) {
      if (key.startsWith("on")) node.addEventListener(key.slice(2), value);
      else if (value === true) node.setAttribute(key, "");
      else if (value !== false && value != null) node.setAttribute(key, value);
    }
    node.append(...children.filter((child) => child != null));
    return node;
  }

  /* The address of an image; "" while its part of the page has not arrived. */
  function address(ref) {
    if (typeof ref === "string") return ref;
    if (data.images) return data.images[ref];
    const block = document.getElementById("i" + ref);
    return block ? "data:image/webp;base64," + block.textContent : "";
  }

  function show(image, ref) {
    image.dataset.ref = JSON.stringify(ref);
    const found = address(ref);
    if (found) image.src = found;
    else document.addEventListener("DOMContentLoaded", () => {
      if (image.dataset.ref === JSON.stringify(ref)) image.src = address(ref);
    }, { once: true });
  }

  const clock = (seconds) => {
    const whole = Math.floor(seconds);
    const two = (number) => String(number).padStart(2, "0");
    return `${Math.floor(whole / 3600)}:${two(Math.floor(whole / 60) % 60)}:${two(whole % 60)}`;
  };
  const percent = (value) => `${Math.round(100 * value)} %`;
  const titleOf = (entry) => {
    const { name } = data.files[entry.file];
    return entry.shot ? `${name}, shot ${entry.shot}` : name;
  };

  /* A before/after slider: pointer on the picture, or arrow keys on the range input that lies over it. */
  function compare(entry, { lazy = true, after = entry.after, before = entry.before, href = null, label = titleOf(entry) } = {}) {
    const top = el("img", { class: "layer", alt: `${label}, after`, decoding: "async", draggable: "false" });
    const under = el("img", { class: "layer before" + (before == null ? " luma" : ""), alt: "", decoding: "async", draggable: "false" });
    const range = el("input", { type: "range", min: 0, max: 100, value: 50, step: 1, "aria-label": `Before and after: ${label}` });
    const figure = el("div", { class: "compare" }, top, el("div", { class: "clip" }, under), el("div", { class: "rule", "aria-hidden": "true" }),
      range, el("span", { class: "tag left", "aria-hidden": "true" }, "before"), el("span", { class: "tag right", "aria-hidden": "true" }, "after"));
    figure.shape = (w, h) => {
      for (const node of [figure, figure.closest(".card")]) if (node) { node.style.setProperty("--w", w); node.style.setProperty("--h", h); }
    };
    figure.shape(...(entry.size || [4, 3]));
    if (!entry.size) top.addEventListener("load", () => { entry.size = [top.naturalWidth, top.naturalHeight]; figure.shape(...entry.size); }, { once: true });
    const set = (value) => {
      const bounded = Math.max(0, Math.min(100, value));
      range.value = bounded;
      figure.style.setProperty("--x", bounded + "%");
      range.setAttribute("aria-valuetext", `${Math.round(bounded)} % before`);
    };
    set(50);
    range.addEventListener("input", () => set(Number(range.value)));
    let dragging = false;
    const follow = (event) => {
      const box = figure.getBoundingClientRect();
      set(100 * (event.clientX - box.left) / box.width);
    };
    figure.addEventListener("pointerdown", (event) => {
      if (event.button !== 0 || figure.classList.contains("editing")) return;
      dragging = true;
      figure.setPointerCapture(event.pointerId);
      follow(event);
      range.focus({ preventScroll: true });
      event.preventDefault();
    });
    figure.addEventListener("pointermove", (event) => { if (dragging) follow(event); });
    for (const name of ["pointerup", "pointercancel"]) figure.addEventListener(name, () => { dragging = false; });
    const load = () => {
      show(top, after);
      show(under, before == null ? after : before);
      if (href) {                           // the file itself, if it is beside the page and the browser knows its format
        const full = new Image();
        full.onload = () => { top.src = full.src; if (before == null) under.src = full.src; };
        full.src = href;
      }
    };
    if (lazy) figure.load = load; else load();
    return Object.assign(figure, { top, under, range, set });
  }

  /* Plays a strip of frames over a slider; returns what stops it. */
  function play(figure, entry) {
    if (entry.loop == null) return null;
    const strip = new Image();
    const canvases = ["layer", "layer before luma"].map((name) => el("canvas", { class: name, "aria-hidden": "true" }));
    let number = 0, timer = 0, last = 0;
    const draw = (time) => {
      if (time - last > 110) {
        last = time;
        const width = strip.naturalWidth / entry.count;
        for (const canvas of canvases) canvas.getContext("2d").drawImage(strip, number * width, 0, width, strip.naturalHeight, 0, 0, canvas.width, canvas.height);
        number = (number + 1) % entry.count;
      }
      timer = requestAnimationFrame(draw);
    };
    strip.onload = () => {
      for (const canvas of canvases) { canvas.width = strip.naturalWidth / entry.count; canvas.height = strip.naturalHeight; }
      figure.top.after(canvases[0]);
      figure.under.after(canvases[1]);
      timer = requestAnimationFrame(draw);
    };
    show(strip, entry.loop);
    return () => { cancelAnimationFrame(timer); strip.onload = null; canvases.forEach((canvas) => canvas.remove()); };
  }

  function playButton(figure, entry) {
    if (entry.loop == null) return null;
    let stop = null;
    const button = el("button", { type: "button", class: "small play", "aria-pressed": "false", onclick: () => {
      if (stop) { stop(); stop = null; loops.delete(figure); } else { stop = play(figure, entry); loops.set(figure, () => button.click()); }
      button.setAttribute("aria-pressed", String(Boolean(stop)));
      button.textContent = stop ? "Stop" : "Play";
    } }, "Play");
    return button;
  }

  function chips(entry) {
    const warnings = data.files[entry.file].warnings.length;
    const made = [];
    const chip = (text, kind, title) => made.push(el("li", { class: "chip " + kind, title }, text));
    if (entry.doubt > 0) chip(`doubt ${entry.doubt.toFixed(2)}`, entry.doubt > (entry.shot ? 2 : 0.5) ? "warm" : "", "How unsure the network was");
    if (entry.drift != null) chip(`drift ${percent(entry.drift)}`, entry.drift > 0.2 ? "warm" : "", "How far colours wander where nothing moves");
    if (entry.flicker != null) chip(`flicker ${entry.flicker.toFixed(2)}`, entry.flicker > 0.8 ? "warm" : "", "Change of colour from frame to frame over that of light");
    if (entry.kept) chip("colours kept", "", "It was in colour already");
    if (warnings) chip(warnings === 1 ? "1 warning" : `${warnings} warnings`, "hot", data.files[entry.file].warnings.join("\n"));
    return el("ul", { class: "chips" }, ...made);
  }

  function thumbs(entry, figure) {
    if (!entry.frames || entry.frames.length < 2) return null;
    const names = ["first", "middle", "last"];
    return el("div", { class: "three" }, ...entry.frames.map((ref, number) => {
      const image = el("img", { alt: "", decoding: "async", "data-lazy": "" });
      image.load = () => show(image, ref);
      return el("button", { type: "button", "aria-label": `Show the ${names[number]} frame`, "aria-pressed": String(number === 1),
        onclick: (event) => {
          show(figure.top, ref); show(figure.under, ref);
          for (const each of event.currentTarget.parentNode.children) each.setAttribute("aria-pressed", String(each === event.currentTarget));
        } }, image);
    }));
  }

  function card(entry, position) {
    const figure = compare(entry);
    const when = entry.shot ? `${clock(entry.start || 0)}, ${(entry.seconds || 0).toFixed(1)} s` : "";
    const open = el("button", { type: "button", class: "open", onclick: () => view(position) },
      el("span", { class: "name" }, titleOf(entry)), when && el("span", { class: "dim" }, when));
    const item = el("li", { class: "card" }, figure, thumbs(entry, figure),
      el("div", { class: "caption" }, open, el("div", { class: "row" }, chips(entry), playButton(figure, entry))));
    item.entry = entry;
    figure.shape(...(entry.size || [4, 3]));
    for (const hook of hooks.card) hook(item, entry);
    near.observe(item);
    return item;
  }

  /* Pictures are decoded as they come near, and let go when they are far. */
  const near = new IntersectionObserver((changes) => {
    for (const change of changes) {
      const figure = change.target.querySelector(".compare");
      if (change.isIntersecting) {
        if (figure.load) { figure.load(); figure.load = null; }
        for (const image of change.target.querySelectorAll("[data-lazy]")) if (image.load) { image.load(); image.load = null; }
      } else if (loops.has(figure)) loops.get(figure)();
    }
  }, { rootMargin: "600px" });

  const end = new IntersectionObserver((changes) => { if (changes.some((change) => change.isIntersecting)) more(); }, { rootMargin: "1500px" });

  function more() {
    if (made >= shown.length) return;
    const batch = document.createDocumentFragment();
    const until = Math.min(made + BATCH, shown.length);
    for (; made < until; made++) batch.append(card(entries[shown[made]], made));
    $("grid").append(batch);
    end.unobserve($("end"));                // look again: the end may still be in view
    end.observe($("end"));
  }

  function update() {
    const text = $("find").value.trim().toLowerCase();
    const only = $("only").value, order = $("order").value;
    const tests = {
      all: () => true, pictures: (entry) => !data.files[entry.file].film, shots: (entry) => data.files[entry.file].film,
      warnings: (entry) => data.files[entry.file].warnings.length > 0, kept: (entry) => entry.kept, ...hooks.matches,
    };
    shown = [...entries.keys()].filter((number) => tests[only](entries[number]) && titleOf(entries[number]).toLowerCase().includes(text));
    if (order !== "name") shown.sort((a, b) => (entries[b][order] ?? -1) - (entries[a][order] ?? -1) || a - b);
    for (const stop of [...loops.values()]) stop();
    near.disconnect();
    $("grid").replaceChildren();
    made = 0;
    $("empty").hidden = shown.length > 0;
    const things = (number) => `${number.toLocaleString("en")} ${films ? "pictures and shots" : number === 1 ? "picture" : "pictures"}`;
    $("count").textContent = shown.length === entries.length ? things(entries.length) : `${shown.length.toLocaleString("en")} of ${things(entries.length)}`;
    more();
  }

  function notes() {
    const place = $("notes");
    const fold = (title, rows) => place.append(el("details", { class: "note" }, el("summary", {}, title), el("ul", {}, ...rows.map((row) => el("li", {}, row)))));
    if (data.failed.length) fold(data.failed.length === 1 ? "1 file failed" : `${data.failed.length} files failed`, data.failed.map((each) => `${each.name}: ${each.text}`));
    if (data.gone) place.append(el("p", { class: "note" }, data.gone === 1 ? "1 finished file is gone or was changed, and is not shown." : `${data.gone} finished files are gone or were changed, and are not shown.`));
    if (data.omitted) place.append(el("p", { class: "note" }, `The ${data.omitted} least doubtful shots are not on this page; bwpipe review with --serve shows all.`));
  }

  /* The viewer */
  function facts(entry) {
    const file = data.files[entry.file];
    const rows = [];
    const row = (name, value) => { if (value != null && value !== "") rows.push(el("dt", {}, name), el("dd", {}, value)); };
    row("doubt", entry.doubt ? entry.doubt.toFixed(2) : null);
    row("confidence", entry.confidence != null ? entry.confidence.toFixed(2) : null);
    row("drift", entry.drift != null ? percent(entry.drift) : null);
    row("flicker", entry.flicker != null ? entry.flicker.toFixed(2) : null);
    row("from", entry.start != null ? `${clock(entry.start)}, frame ${entry.first}` : null);
    row("length", entry.seconds != null ? `${entry.seconds.toFixed(1)} s, ${entry.length} frames` : null);
    if (entry.kept) row("colours", "kept");
    const parts = [];
    if (file.warnings.length) parts.push(el("section", { class: "warnings" }, el("h3", {}, "Warnings"), el("ul", {}, ...file.warnings.map((text) => el("li", {}, text)))));
    if (rows.length) parts.push(el("section", {}, el("h3", {}, "Figures"), el("dl", { class: "facts" }, ...rows)));
    const options = Object.entries(file.options);
    if (options.length) parts.push(el("details", { class: "section" }, el("summary", {}, "Made with"),
      el("dl", { class: "facts" }, ...options.flatMap(([name, value]) => [el("dt", {}, name), el("dd", {}, value)]))));
    return parts;
  }

  function view(position) {
    if (position < 0 || position >= shown.length) return;
    current = position;
    const entry = entries[shown[position]];
    const file = data.files[entry.file];
    for (const stop of [...loops.values()]) stop();
    const figure = compare(entry, { lazy: false, href: file.film ? null : entry.large || file.href, before: entry.largeBefore || entry.before });
    const tools = el("div", { class: "under" }, playButton(figure, entry));
    $("stage").replaceChildren(figure, ...[thumbs(entry, figure), tools].filter(Boolean));
    for (const image of $("stage").querySelectorAll("[data-lazy]")) { image.load(); image.load = null; }
    $("viewed").textContent = titleOf(entry);
    $("place").textContent = `${position + 1} of ${shown.length}`;
    $("previous").disabled = position === 0;
    $("next").disabled = position === shown.length - 1;
    $("side").replaceChildren(...facts(entry));
    for (const hook of hooks.view) hook(entry, figure, $("side"), $("stage"));
    if (!$("viewer").open) { $("viewer").showModal(); $("viewed").focus(); }
  }

  function close() {
    for (const stop of [...loops.values()]) stop();
    $("viewer").close();
  }
  $("viewer").addEventListener("close", () => {
    $("stage").replaceChildren();
    while (made <= current && made < shown.length) more();
    const item = $("grid").children[current];
    if (item) { item.querySelector(".open").focus({ preventScroll: true }); item.scrollIntoView({ block: "nearest" }); }
    current = -1;
  });
  $("close").onclick = close;
  $("previous").onclick = () => view(current - 1);
  $("next").onclick = () => view(current + 1);

  function step(by) {
    if ($("viewer").open) return view(current + by);
    const items = [...$("grid").children];
    const at = items.findIndex((item) => item.contains(document.activeElement));
    const to = items[at < 0 ? (by > 0 ? 0 : -1) : at + by];
    if (to) { to.querySelector(".open").focus({ preventScroll: true }); to.scrollIntoView({ block: "nearest", behavior: still.matches ? "auto" : "smooth" }); }
  }

  function before(on) {
    const figure = $("viewer").open ? $("stage").querySelector(".compare") : document.activeElement.closest?.(".card")?.querySelector(".compare");
    if (figure) figure.classList.toggle("peek", on);
  }

  document.addEventListener("keydown", (event) => {
    const typing = event.target.matches("input:not([type=range]), select, textarea");
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    if (!typing && hooks.keys.some((hook) => hook(event))) { event.preventDefault(); return; }
    if (typing || $("keys").open) return;
    const range = event.target.matches("input[type=range]");
    const actions = {
      j: () => step(1), k: () => step(-1), b: () => before(true), p: () => {
        const area = $("viewer").open ? $("stage") : document.activeElement.closest(".card");
        area?.querySelector(".play")?.click();
      },
      "/": () => { if (!$("viewer").open) $("find").focus(); }, "?": () => $("keys").showModal(),
      ...(range ? {} : { ArrowRight: () => step(1), ArrowLeft: () => step(-1) }),
    };
    const action = actions[event.key];
    if (action && !(event.repeat && event.key === "b")) { action(); event.preventDefault(); }
  });
  document.addEventListener("keyup", (event) => { if (event.key === "b") before(false); });
  addEventListener("blur", () => before(false));
  $("find").addEventListener("keydown", (event) => { if (event.key === "Escape") { event.target.value = ""; update(); event.target.blur(); } });
  $("find").addEventListener("input", update);
  $("only").addEventListener("change", update);
  $("order").addEventListener("change", update);
  $("help").onclick = () => $("keys").showModal();
  $("theme").onclick = () => {
    const dark = getComputedStyle(document.documentElement).getPropertyValue("--theme").trim() === "dark";
    document.documentElement.dataset.theme = dark ? "light" : "dark";
  };

  if (!films) $("only").querySelector("[value=shots]").remove();
  for (const key of ["drift", "flicker"]) if (!entries.some((entry) => entry[key] != null)) $("order").querySelector(`[value=${key}]`).remove();
  if (!entries.some((entry) => entry.kept)) $("only").querySelector("[value=kept]").remove();
  notes();
  queueMicrotask(update);                   // once the other scripts have added what they add
  return { data, entries, hooks, el, show, compare, view, update, titleOf, current: () => entries[shown[current]], $ };
})();
