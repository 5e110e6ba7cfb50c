// A square for two strengths: `value` is {x, y, reach, across, down, picture}. A drag triggers "input" for each place
// and "release" at its end; "focus" asks for the picture of all combinations, where it is missing.
const field = element.querySelector(".field");
const dot = element.querySelector(".dot");
const picture = element.querySelector("img");
const words = element.querySelector(".words");
let dragged = false;
let asked = null;
let rest = 0;

const clamp = (number) => Math.min(Math.max(number, -props.value.reach), props.value.reach);
const rounded = (number) => Math.round(clamp(number) * 20) / 20;

const draw = () => {
  const { x, y, reach, across, down, picture: src } = props.value ?? {};
  if (!across) return;
  dot.style.left = `${50 + (50 * clamp(x)) / reach}%`;
  dot.style.top = `${50 + (50 * clamp(y)) / reach}%`;
  picture.hidden = !src;
  if (src && picture.getAttribute("src") !== src) picture.src = src;
  const told = `${across} ${x.toFixed(2)}, ${down} ${y.toFixed(2)}`;
  words.textContent = `${across} → ${x.toFixed(2)}   ${down} ↓ ${y.toFixed(2)}`;
  field.setAttribute("aria-label", `Pad of two edits: ${told}. Arrow keys move the point, with Shift in larger steps.`);
};

const move = (x, y) => {
  props.value = { ...props.value, x: rounded(x), y: rounded(y) };
  draw();
  trigger("input");
};

const follow = (event) => {
  const { left, top, width, height } = field.getBoundingClientRect();
  const { reach } = props.value;
  move(((event.clientX - left) / width) * 2 * reach - reach, ((event.clientY - top) / height) * 2 * reach - reach);
};

const ask = () => {
  const { across, down, picture: src, rest } = props.value ?? {};
  const wanted = `${across}/${down}/${rest}`;
  if (!across || src || asked === wanted) return;
  asked = wanted;
  trigger("focus");
};

field.addEventListener("pointerenter", ask);
field.addEventListener("focus", ask);
field.addEventListener("pointerdown", (event) => {
  if (event.button) return;
  field.setPointerCapture(event.pointerId);
  dragged = true;
  follow(event);
});
field.addEventListener("pointermove", (event) => dragged && follow(event));
const drop = () => {
  if (dragged) trigger("release");
  dragged = false;
};
field.addEventListener("pointerup", drop);
field.addEventListener("pointercancel", drop);

const steps = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };
field.addEventListener("keydown", (event) => {
  const step = steps[event.key];
  if (!step || event.ctrlKey || event.altKey || event.metaKey) return;
  event.preventDefault();
  const size = event.shiftKey ? 0.5 : 0.1;
  move(props.value.x + step[0] * size, props.value.y + step[1] * size);
});
field.addEventListener("keyup", (event) => {
  if (!(event.key in steps)) return;
  clearTimeout(rest); // several presses in a row are one way
  rest = setTimeout(() => trigger("release"), 400);
});

draw();
watch("value", draw);
