// What lies on the picture: hover and click parts, drag or click boxes, paint. `value` is {map, parts, of}: a small PNG
// whose grey levels number the parts, and the address of the picture that it is of. "focus" asks for the map of
// `value.asks`; a mark is put into `value.mark` and told by "select".
const SIDE = 256; // pixels of a painted mask
const PINK = "#ff3399";
const canvas = document.createElement("canvas");
const pen = canvas.getContext("2d");
const painted = Object.assign(document.createElement("canvas"), { width: SIDE, height: SIDE });
const brush = painted.getContext("2d");
const tools = [...element.querySelectorAll("[data-tool]")];
const size = element.querySelector(".size");
const words = element.querySelector(".words");
const hints = {
  part: "Point at a part to see its name, click to choose it.",
  box: "Drag a box, or click two corners.",
  brush: "Paint over the place to edit.",
};
let tool = "part";
let labels = null; // {width, height, cells} of the map
let mapped = ""; // address of the picture that the map is of
let asked = "";
let at = null; // {x, y} of the pointer or the crosshair, as shares of the picture
let keyed = false; // by keys, so that a crosshair is drawn
let corner = null; // of a box under way
let box = null; // the last one
let pressed = null; // where the pointer went down
let stroke = null; // the last place of a stroke under way

canvas.className = "surface";
canvas.tabIndex = 0;
canvas.setAttribute("role", "application");

const holder = () => document.querySelector("#picture");
const shown = () => holder()?.querySelector("img");
const source = () => shown()?.getAttribute("src") ?? "";

// ---- where it lies

const place = () => {
  const picture = shown();
  if (!picture) return canvas.remove();
  if (canvas.parentNode !== holder()) holder().append(canvas);
  const [inner, outer] = [picture.getBoundingClientRect(), holder().getBoundingClientRect()];
  const side = { left: inner.left - outer.left, top: inner.top - outer.top, width: inner.width, height: inner.height };
  for (const [name, value] of Object.entries(side)) canvas.style[name] = `${value}px`;
  const dense = window.devicePixelRatio || 1;
  const [wide, high] = [Math.round(inner.width * dense), Math.round(inner.height * dense)];
  if (canvas.width !== wide || canvas.height !== high) [canvas.width, canvas.height] = [wide, high];
  draw();
};
const later = () => requestAnimationFrame(place);
const sizes = new ResizeObserver(later);
const watched = document.querySelector("#canvas") ?? document.body;
new MutationObserver(() => {
  if (holder()) sizes.observe(holder());
  if (shown()) sizes.observe(shown());
  if (shown() && canvas.parentNode !== holder()) later();
}).observe(watched, { childList: true, subtree: true });

// ---- the map of parts

const ask = () => {
  const now = source();
  if (!now || asked === now) return;
  asked = now;
  props.value = { ...(props.value ?? {}), asks: now };
  trigger("focus");
};

const read = () => {
  const { map, parts, of } = props.value ?? {};
  if (!of) asked = ""; // what the parts are has changed
  if (!map) {
    labels = null;
    return tell();
  }
  const picture = new Image();
  picture.onload = () => {
    const sheet = Object.assign(document.createElement("canvas"), { width: picture.width, height: picture.height });
    const ink = sheet.getContext("2d", { willReadFrequently: true });
    ink.drawImage(picture, 0, 0);
    const cells = ink.getImageData(0, 0, sheet.width, sheet.height).data.filter((_, i) => i % 4 === 0);
    labels = { width: sheet.width, height: sheet.height, cells, parts };
    mapped = of;
    tell();
  };
  picture.src = map;
};

const under = () => {
  if (!labels || !at) return -1;
  const cell = (share, count) => Math.min(Math.max(Math.floor(share * count), 0), count - 1);
  return labels.cells[cell(at.y, labels.height) * labels.width + cell(at.x, labels.width)];
};

const tell = () => {
  const part = tool === "part" ? under() : -1;
  const none = tool === "part" && props.value?.of && !props.value.map;
  const text = part >= 0 ? labels.parts[part] : none ? "No parts are known: box or brush the place." : hints[tool];
  if (words.textContent !== text) words.textContent = text;
  element.dataset.part = part >= 0 ? text : "";
  draw();
};

// ---- drawing

const rectangle = (a, b) => [Math.min(a.x, b.x), Math.min(a.y, b.y), Math.abs(a.x - b.x), Math.abs(a.y - b.y)];

function draw() {
  const { width, height } = canvas;
  pen.clearRect(0, 0, width, height);
  pen.lineWidth = Math.max(2, width / 300);
  pen.strokeStyle = PINK;
  if (tool === "brush") {
    pen.globalAlpha = 0.55;
    pen.drawImage(painted, 0, 0, width, height);
    pen.globalAlpha = 1;
  }
  if (tool === "box") {
    const drawn = corner && at ? [corner, at] : box;
    if (drawn) {
      const [x, y, w, h] = rectangle(...drawn);
      pen.strokeRect(x * width, y * height, w * width, h * height);
    }
  }
  const part = tool === "part" && mapped === source() ? under() : -1;
  if (part >= 0) outline(part);
  if (keyed && at) {
    const reach = width / 40;
    pen.beginPath();
    pen.moveTo(at.x * width - reach, at.y * height);
    pen.lineTo(at.x * width + reach, at.y * height);
    pen.moveTo(at.x * width, at.y * height - reach);
    pen.lineTo(at.x * width, at.y * height + reach);
    pen.stroke();
  }
}

function outline(part) {
  const { width: w, height: h, cells } = labels;
  const [sx, sy] = [canvas.width / w, canvas.height / h];
  pen.beginPath();
  for (let y = 0; y < h; y++) {
    for (let x = 0; x < w; x++) {
      if (cells[y * w + x] !== part) continue;
      if (x + 1 < w && cells[y * w + x + 1] !== part) line((x + 1) * sx, y * sy, (x + 1) * sx, (y + 1) * sy);
      if (x > 0 && cells[y * w + x - 1] !== part) line(x * sx, y * sy, x * sx, (y + 1) * sy);
      if (y + 1 < h && cells[(y + 1) * w + x] !== part) line(x * sx, (y + 1) * sy, (x + 1) * sx, (y + 1) * sy);
      if (y > 0 && cells[(y - 1) * w + x] !== part) line(x * sx, y * sy, (x + 1) * sx, y * sy);
    }
  }
  pen.stroke();
}

const line = (x, y, u, v) => {
  pen.moveTo(x, y);
  pen.lineTo(u, v);
};

const paint = (from, to) => {
  brush.strokeStyle = PINK;
  brush.lineCap = "round";
  brush.lineWidth = (Number(size.value) / 100) * SIDE;
  brush.beginPath();
  brush.moveTo(from.x * SIDE, from.y * SIDE);
  brush.lineTo(to.x * SIDE + 0.01, to.y * SIDE);
  brush.stroke();
};

// ---- marks

const send = (mark) => {
  props.value = { ...(props.value ?? {}), mark };
  trigger("select");
};
const sendPoint = () => send({ kind: "part", row: at.y, column: at.x });
const sendBox = () => {
  box = [corner, at];
  corner = null;
  send({ kind: "box", corners: [box[0].y, box[0].x, box[1].y, box[1].x] });
};
const sendPaint = () => send({ kind: "brush", mask: painted.toDataURL("image/png") });

const clear = () => {
  brush.clearRect(0, 0, SIDE, SIDE);
  [corner, box, stroke] = [null, null, null];
  draw();
};

const choose = (name) => {
  tool = name;
  clear();
  for (const each of tools) each.setAttribute("aria-pressed", String(each.dataset.tool === name));
  element.querySelector(".bar").dataset.now = name;
  canvas.dataset.now = name;
  const keys = name === "brush" ? "Enter paints at the crosshair" : name === "box" ? "Enter sets a corner" : "Enter chooses the part";
  canvas.setAttribute("aria-label", `The picture. ${hints[name]} Arrow keys move a crosshair, ${keys}.`);
  tell();
};

// ---- pointer and keys

const locate = (event) => {
  const { left, top, width, height } = canvas.getBoundingClientRect();
  const share = (pixel, all) => Math.min(Math.max(pixel / all, 0), 1);
  at = { x: share(event.clientX - left, width), y: share(event.clientY - top, height) };
  keyed = false;
};

canvas.addEventListener("pointermove", (event) => {
  locate(event);
  if (tool === "part") ask();
  if (stroke) {
    paint(stroke, at);
    stroke = at;
  }
  tell();
});
canvas.addEventListener("pointerdown", (event) => {
  if (event.button) return;
  locate(event);
  pressed = at;
  if (tool === "part") return;
  canvas.setPointerCapture(event.pointerId);
  if (tool === "box" && !corner) corner = at;
  if (tool === "brush") {
    stroke = at;
    paint(at, at);
  }
  draw();
});
canvas.addEventListener("pointerup", (event) => {
  if (!pressed) return;
  locate(event);
  const moved = Math.hypot(at.x - corner?.x, at.y - corner?.y) > 0.015;
  if (tool === "part") sendPoint();
  if (tool === "box" && moved) sendBox(); // the end of a drag, or the second corner
  if (tool === "brush" && stroke) sendPaint();
  [pressed, stroke] = [null, null];
  draw();
});
canvas.addEventListener("pointercancel", () => {
  [pressed, stroke, corner] = [null, null, null];
  draw();
});
canvas.addEventListener("pointerleave", () => {
  if (pressed) return;
  at = null;
  tell();
});

const steps = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };
canvas.addEventListener("focus", () => {
  if (tool === "part") ask();
});
canvas.addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.altKey || event.metaKey) return;
  if (event.key === "Escape") [corner, box] = [null, null];
  const step = steps[event.key];
  if (step) {
    const far = event.shiftKey ? 0.1 : 0.02;
    const from = at ?? { x: 0.5, y: 0.5 };
    at = { x: Math.min(Math.max(from.x + step[0] * far, 0), 1), y: Math.min(Math.max(from.y + step[1] * far, 0), 1) };
    keyed = true;
    if (tool === "part") ask();
  } else if ((event.key === "Enter" || event.key === " ") && at) {
    if (tool === "part") sendPoint();
    else if (tool === "box") corner ? sendBox() : (corner = at);
    else {
      paint(at, at);
      sendPaint();
    }
  } else if (event.key !== "Escape") return;
  event.preventDefault();
  tell();
});

for (const each of tools) each.addEventListener("click", () => choose(each.dataset.tool));
element.querySelector(".clear").addEventListener("click", clear);
// Gradio's sliders tell of their release by pointers alone; several presses of keys in a row are one way
let rest = 0;
document.addEventListener("keyup", ({ target }) => {
  if (!target.matches?.(".edit input[type=range]")) return;
  clearTimeout(rest);
  rest = setTimeout(() => target.dispatchEvent(new PointerEvent("pointerup", { bubbles: true })), 400);
});

choose("part");
place();
watch("value", read);
