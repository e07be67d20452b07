// The drawing of a scene: agents and the ego path from above, speed and curvature over time.
//
// props.value is what a form holds: {speed, curvature, agents}, see gaia2/app/form.py. Metres and radians in the ego
// frame: x ahead, y to the left, counter-clockwise positive. On the picture ahead is up, so a point (x, y) is drawn at
// (-y, -x), and one unit of the picture is a metre.
// props.seconds is the length of the video, props.cameras what each camera sees, props.categories the colour and size
// of each kind of agent, props.most how many agents there may be.

const KNOTS = 5;
const HANDLE = 2.5; // metres from an agent's front to the handle that turns it
const DIGITS = { speed: 1, curvature: 3 };
const UNITS = { speed: "m/s", curvature: "1/m" };
const KEYS = { ArrowUp: [0.5, 0], ArrowDown: [-0.5, 0], ArrowLeft: [0, 0.5], ArrowRight: [0, -0.5] };

const view = element.querySelector(".view");
const find = (selector) => element.querySelector(selector);
const round = (number, digits = 3) => Number(number.toFixed(digits));
let value = read();
let chosen = -1;
let reach = 60; // metres ahead that are shown

function read() {
  return props.value && props.value.agents ? structuredClone(props.value) : { speed: null, curvature: null, agents: [] };
}

function commit() {
  props.value = structuredClone(value);
  draw();
}

function make(kind, attributes, parent, text) {
  const made = document.createElementNS("http://www.w3.org/2000/svg", kind);
  for (const [name, content] of Object.entries(attributes)) made.setAttribute(name, content);
  if (text !== undefined) made.textContent = text;
  parent.append(made);
  return made;
}

// The value at a share, 0 to 1, of the time: straight lines between evenly spread knots, 0 where there are none.
function at(knots, share) {
  if (!knots) return 0;
  const place = share * (knots.length - 1);
  const before = Math.min(Math.floor(place), Math.max(0, knots.length - 2));
  const after = Math.min(before + 1, knots.length - 1);
  return knots[before] + (place - before) * (knots[after] - knots[before]);
}

// Poses along a path that begins at a pose with the given speeds and curvatures.
function follow([x, y, yaw], speed, curvature, parts = 48) {
  const poses = [[x, y, yaw]];
  for (let part = 0; part < parts; part++) {
    const length = (at(speed, (part + 0.5) / parts) * props.seconds) / parts;
    const turn = length * at(curvature, (part + 0.5) / parts);
    x += length * Math.cos(yaw + turn / 2);
    y += length * Math.sin(yaw + turn / 2);
    yaw += turn;
    poses.push([x, y, yaw]);
  }
  return poses;
}

function agentPoses(agent) {
  const start = [agent.x, agent.y, agent.yaw ?? 0];
  if (!agent.track) return follow(start, [agent.speed ?? 0], [agent.curvature ?? 0], 24);
  const [cos, sin] = [Math.cos(start[2]), Math.sin(start[2])];
  return agent.track
    .filter((pose) => pose)
    .map(([x, y, yaw]) => [start[0] + cos * x - sin * y, start[1] + sin * x + cos * y, start[2] + yaw]);
}

const line = (poses) => poses.map(([x, y]) => round(-y) + "," + round(-x)).join(" ");

function draw() {
  drawStreet();
  value.agents.forEach(drawAgent);
  element.querySelectorAll(".curve").forEach(drawCurve);
  drawChosen();
}

function drawStreet() {
  view.replaceChildren();
  view.setAttribute("viewBox", [-0.6 * reach, -reach, 1.2 * reach, 1.4 * reach].join(" "));
  for (let radius = 20; radius <= reach; radius += 20) {
    make("circle", { class: "ring", r: radius }, view);
    make("text", { x: 0.5, y: -radius - 0.5 }, view, radius + " m");
  }
  for (const camera of props.cameras ?? []) {
    const shape = make("polygon", { class: "camera", points: line(camera.corners) }, view);
    make("title", {}, shape, camera.name);
  }
  const path = follow([0, 0, 0], value.speed, value.curvature);
  make("polyline", { class: "path", points: line(path) }, view);
  make("rect", { class: "ego", x: -1, y: -3.85, width: 2, height: 4.9, rx: 0.6 }, view);
  const [x, y] = path.at(-1);
  const end = make("circle", { class: "end", cx: -y, cy: -x, r: 1.1 }, view);
  make("title", {}, end, "End of the ego path");
  drag(end, ([px, py]) => driveTo(px, py));
}

// The arc that leads from where the ego vehicle stands to a point ahead.
function driveTo(x, y) {
  const ahead = Math.max(x, 0.1);
  const turn = 2 * Math.atan2(y, ahead);
  const curvature = (2 * y) / (ahead * ahead + y * y);
  const length = Math.abs(curvature) < 1e-6 ? ahead : turn / curvature;
  value.speed = [round(Math.min(length / props.seconds, 60), 2)];
  value.curvature = [round(Math.max(-0.3, Math.min(0.3, curvature)), 4)];
}

function drawAgent(agent, index) {
  const kind = props.categories[agent.category];
  const [length, width] = [0, 1].map((side) => agent.size?.[side] ?? kind.size[side]);
  make("polyline", { class: "trace", points: line(agentPoses(agent)), stroke: kind.colour }, view);
  const turn = (-(agent.yaw ?? 0) * 180) / Math.PI;
  const shape = make("g", {
    class: "agent-shape" + (index === chosen ? " chosen" : ""),
    transform: `translate(${-agent.y} ${-agent.x}) rotate(${turn})`,
    tabindex: 0, role: "button", "aria-label": `${agent.category} ${index + 1}`, "data-index": index,
  }, view);
  const box = { x: -width / 2, y: -length / 2, width, height: length, fill: kind.colour, stroke: kind.colour };
  make("rect", box, shape);
  make("path", { d: `M ${-width / 4} ${-length / 4} L 0 ${-length / 2} L ${width / 4} ${-length / 4} Z`, fill: "#ffffff" }, shape);
  make("title", {}, shape, agent.category);
  const handle = make("circle", { class: "handle", cy: -length / 2 - HANDLE, r: 0.9 }, shape);
  drag(shape, ([x, y], [dx, dy]) => Object.assign(agent, { x: round(dx + agent.x), y: round(dy + agent.y) }), index);
  drag(handle, ([x, y]) => (agent.yaw = round(Math.atan2(y - agent.y, x - agent.x), 4)), index);
  shape.addEventListener("keydown", (event) => pressed(event, agent, index));
}

function pressed(event, agent, index) {
  if (event.key in KEYS) {
    const [dx, dy] = KEYS[event.key];
    Object.assign(agent, { x: round(agent.x + dx), y: round(agent.y + dy) });
  } else if (event.key === "r" || event.key === "R") {
    agent.yaw = round((agent.yaw ?? 0) + (event.key === "r" ? 0.1 : -0.1), 4);
  } else if (event.key === "Delete") {
    remove(index);
  } else if (event.key !== "Enter") {
    return;
  }
  event.preventDefault();
  chosen = event.key === "Delete" ? -1 : index;
  commit();
  view.querySelector(`[data-index="${index}"]`)?.focus();
}

// Where a pointer is on the street, in metres.
function metres(event) {
  const point = new DOMPoint(event.clientX, event.clientY).matrixTransform(view.getScreenCTM().inverse());
  return [-point.y, -point.x];
}

// Call change(place, moved) while a shape is dragged; both in metres.
function drag(shape, change, index) {
  shape.addEventListener("pointerdown", (event) => {
    event.preventDefault();
    event.stopPropagation();
    if (index !== undefined) chosen = index;
    let last = metres(event);
    const moved = (next) => {
      const place = metres(next);
      change(place, [place[0] - last[0], place[1] - last[1]]);
      last = place;
      draw();
    };
    const over = () => {
      window.removeEventListener("pointermove", moved);
      window.removeEventListener("pointerup", over);
      window.removeEventListener("pointercancel", over);
      commit();
    };
    window.addEventListener("pointermove", moved);
    window.addEventListener("pointerup", over);
    window.addEventListener("pointercancel", over);
  });
}

function drawCurve(field) {
  const name = field.dataset.name;
  const even = field.querySelector(".even");
  const knots = value[name];
  field.querySelector(".given").checked = knots !== null;
  even.disabled = knots === null;
  const mean = knots ? knots.reduce((sum, knot) => sum + knot, 0) / knots.length : 0;
  even.value = mean;
  field.querySelector("output").textContent = knots ? `${mean.toFixed(DIGITS[name])} ${UNITS[name]}` : "left to the model";
  const plot = field.querySelector(".plot");
  plot.replaceChildren();
  if (!knots) return;
  const [low, high] = range(even, knots);
  const place = (knot, index, all) => [10 + (220 * index) / (all.length - 1), 60 - (50 * (knot - low)) / (high - low)];
  const shown = knots.length > 1 ? knots : Array(KNOTS).fill(knots[0]);
  const zero = place(0, 0, [0, 0])[1];
  make("line", { class: "axis", x1: 5, x2: 235, y1: zero, y2: zero }, plot);
  make("polyline", { class: "line", points: shown.map((...knot) => place(...knot).join(",")).join(" ") }, plot);
  make("text", { x: 10, y: 69 }, plot, "0 s");
  make("text", { x: 215, y: 69 }, plot, props.seconds + " s");
  shown.forEach((knot, index) => {
    const [cx, cy] = place(knot, index, shown);
    const point = make("circle", { cx, cy, r: shown.length > KNOTS ? 2.5 : 5 }, plot);
    pull(point, plot, (y) => {
      const wanted = low + ((60 - y) * (high - low)) / 50;
      value[name] = shown.with(index, round(Math.min(high, Math.max(low, wanted)), 4));
    });
  });
}

// The range of a plot: that of its slider, and wider where the curve goes beyond it.
function range(even, knots) {
  return [Math.min(Number(even.min), ...knots), Math.max(Number(even.max), ...knots)];
}

// Call change(y) while a point of a plot is pulled.
function pull(point, plot, change) {
  point.addEventListener("pointerdown", (event) => {
    event.preventDefault();
    const moved = (next) => {
      change(new DOMPoint(next.clientX, next.clientY).matrixTransform(plot.getScreenCTM().inverse()).y);
      draw();
    };
    const over = () => {
      window.removeEventListener("pointermove", moved);
      window.removeEventListener("pointerup", over);
      commit();
    };
    window.addEventListener("pointermove", moved);
    window.addEventListener("pointerup", over);
  });
}

function drawChosen() {
  const agent = value.agents[chosen];
  find(".agent .none").hidden = Boolean(agent);
  find(".agent .fields").hidden = !agent;
  find(".agent output").textContent = agent ? `${chosen + 1}: ${agent.category}` : "";
  if (!agent) return;
  find(".tracked").hidden = !agent.track;
  find(".own-speed").value = agent.speed ?? 0;
  find(".own-curvature").value = agent.curvature ?? 0;
}

function remove(index) {
  value.agents.splice(index, 1);
  chosen = -1;
}

for (const name of Object.keys(props.categories)) find(".category").append(new Option(name, name));
find(".add").addEventListener("click", () => {
  if (value.agents.length >= props.most) return;
  const category = find(".category").value;
  value.agents.push({ category, x: 20, y: round(3.5 - 3.5 * (value.agents.length % 3)), yaw: 0, speed: 0, curvature: 0 });
  chosen = value.agents.length - 1;
  commit();
});
find(".remove").addEventListener("click", () => { remove(chosen); commit(); });
for (const [selector, name] of [[".own-speed", "speed"], [".own-curvature", "curvature"]]) {
  find(selector).addEventListener("change", (event) => {
    const agent = value.agents[chosen];
    delete agent.track;
    Object.assign(agent, { speed: 0, curvature: 0 }, agent, { [name]: Number(event.target.value) });
    commit();
  });
}
element.querySelectorAll(".curve").forEach((field) => {
  const name = field.dataset.name;
  const even = field.querySelector(".even");
  field.querySelector(".given").addEventListener("change", (event) => {
    value[name] = event.target.checked ? [name === "speed" ? 8 : 0] : null;
    commit();
  });
  even.addEventListener("input", () => { value[name] = [Number(even.value)]; draw(); });
  even.addEventListener("change", () => { value[name] = [Number(even.value)]; commit(); });
});
find(".nearer").addEventListener("click", () => { reach = Math.max(20, reach / 1.5); draw(); });
find(".farther").addEventListener("click", () => { reach = Math.min(300, reach * 1.5); draw(); });
// Gradio takes a name in quotes for one of an event, so that these have none.
watch(Object.keys({ value: 0, cameras: 0, seconds: 0 }), () => {
  if (JSON.stringify(props.value) !== JSON.stringify(value)) chosen = -1;
  value = read();
  draw();
});
draw();
