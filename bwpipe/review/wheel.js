"use strict";
/* Colours as hints see them: only hue and strength count, brightness is the picture's own. Chroma is that of full-range BT.601,
   and strength 1 is the most that the gamut has at the brightness of the colour. */
const Wheel = (() => {
  const toRgb = (y, cb, cr) => [y + 1.402 * cr, y - 0.344136 * cb - 0.714136 * cr, y + 1.772 * cb];
  const toYcc = ([r, g, b]) => {
    const y = 0.299 * r + 0.587 * g + 0.114 * b;
    return [y, (b - y) / 1.772, (r - y) / 1.402];
  };
  const toHex = (rgb) => "#" + rgb.map((value) => Math.round(Math.max(0, Math.min(255, value))).toString(16).padStart(2, "0")).join("");
  const fromHex = (hex) => [1, 3, 5].map((at) => parseInt(hex.slice(at, at + 2), 16));

  /* The direction of a hue (degrees, red is 0, green 120) in the plane of Cb and Cr. */
  function direction(hue) {
    const rgb = [0, 120, 240].map((at) => {
      const far = Math.min(Math.abs(hue - at), 360 - Math.abs(hue - at));
      return 255 * Math.max(0, Math.min(1, 2 - far / 60));
    });
    const [, cb, cr] = toYcc(rgb), length = Math.hypot(cb, cr);
    return [cb / length, cr / length];
  }

  /* The longest chroma of a direction within the gamut, at brightness y. */
  function most(y, [cb, cr]) {
    let length = Infinity;
    for (const slope of toRgb(0, cb, cr)) {
      if (slope > 1e-9) length = Math.min(length, (255 - y) / slope);
      else if (slope < -1e-9) length = Math.min(length, -y / slope);
    }
    return length;
  }

  const directions = Array.from({ length: 360 }, (_, hue) => direction(hue));

  function rgbOf({ hue, strength, y }) {
    const along = direction(((hue % 360) + 360) % 360), length = strength * most(y, along);
    return toRgb(y, along[0] * length, along[1] * length);
  }

  function colourOf(rgb) {
    const [y, cb, cr] = toYcc(rgb), length = Math.hypot(cb, cr);
    if (length < 1) return { hue: 0, strength: 0, y };
    let hue = 0, best = -2;
    directions.forEach(([a, b], each) => { const along = (a * cb + b * cr) / length; if (along > best) { best = along; hue = each; } });
    return { hue, strength: Math.min(1, length / Math.max(most(y, directions[hue]), 1e-6)), y };
  }

  /* The element; `changed` is called with the colour. */
  function create(el, changed) {
    const canvas = el("canvas", { width: 152, height: 152, "aria-hidden": "true" });
    const knob = el("span", { class: "knob", "aria-hidden": "true" });
    const wheel = el("div", { class: "wheel" }, canvas, knob);
    const hue = el("input", { type: "range", min: 0, max: 359, step: 1 });
    const strength = el("input", { type: "range", min: 0, max: 100, step: 1 });
    const hex = el("input", { type: "text", maxlength: 7, spellcheck: "false", autocomplete: "off", "aria-label": "Colour as #rrggbb" });
    const now = el("div", { class: "now", "aria-hidden": "true" });
    const fields = el("div", { class: "fields" }, now, el("label", {}, "Hue", hue), el("label", {}, "Strength", strength), hex);
    const colour = { hue: 30, strength: 0.5, y: 140 };
    let painted = -1;

    function paint() {
      const size = canvas.width, middle = size / 2, context = canvas.getContext("2d");
      const image = context.createImageData(size, size);
      const y = Math.max(60, Math.min(200, colour.y));      // else the wheel would be black or white
      for (let row = 0; row < size; row++) for (let column = 0; column < size; column++) {
        const x = (column + 0.5 - middle) / middle, z = (row + 0.5 - middle) / middle, far = Math.hypot(x, z);
        if (far > 1) continue;
        const rgb = rgbOf({ hue: (Math.atan2(-z, x) * 180) / Math.PI, strength: far, y });
        image.data.set([rgb[0], rgb[1], rgb[2], 255].map((value) => Math.max(0, Math.min(255, value))), 4 * (row * size + column));
      }
      context.putImageData(image, 0, 0);
      painted = y;
    }

    function refresh() {
      const y = Math.max(60, Math.min(200, colour.y));
      if (Math.abs(y - painted) > 4) paint();
      const angle = (colour.hue * Math.PI) / 180;
      knob.style.left = `${50 + 50 * colour.strength * Math.cos(angle)}%`;
      knob.style.top = `${50 - 50 * colour.strength * Math.sin(angle)}%`;
      const text = toHex(rgbOf(colour));
      knob.style.background = now.style.background = text;
      hue.value = colour.hue;
      hue.setAttribute("aria-valuetext", `${Math.round(colour.hue)} degrees`);
      strength.value = 100 * colour.strength;
      strength.setAttribute("aria-valuetext", `${Math.round(100 * colour.strength)} %`);
      if (document.activeElement !== hex) hex.value = text;
    }

    function set(part, silent = false) {
      Object.assign(colour, part);
      refresh();
      if (!silent) changed(toHex(rgbOf(colour)));
    }

    let dragging = false;
    const follow = (event) => {
      const box = wheel.getBoundingClientRect();
      const x = (event.clientX - box.left) / box.width * 2 - 1, z = (event.clientY - box.top) / box.height * 2 - 1;
      set({ hue: ((Math.atan2(-z, x) * 180) / Math.PI + 360) % 360, strength: Math.min(1, Math.hypot(x, z)) });
    };
    wheel.addEventListener("pointerdown", (event) => { dragging = true; wheel.setPointerCapture(event.pointerId); follow(event); event.preventDefault(); });
    wheel.addEventListener("pointermove", (event) => { if (dragging) follow(event); });
    for (const name of ["pointerup", "pointercancel"]) wheel.addEventListener(name, () => { dragging = false; });
    hue.addEventListener("input", () => set({ hue: Number(hue.value) }));
    strength.addEventListener("input", () => set({ strength: Number(strength.value) / 100 }));
    hex.addEventListener("input", () => { if (/^#[0-9a-f]{6}$/i.test(hex.value)) set(colourOf(fromHex(hex.value))); });
    refresh();
    return {
      node: el("div", { class: "colour" }, wheel, fields),
      hex: () => toHex(rgbOf(colour)),
      setHex: (text, silent) => set(colourOf(fromHex(text)), silent),
    };
  }

  return { create };
})();
