// Paints the cells of the latent grid that shall be made again, camera by camera.
//
// props.value is {camera: [[row, column], ...]}, see gaia2/app/tasks.py; props.pictures has the name and the first
// picture of each camera, props.grid the rows and columns of cells.

const cameras = element.querySelector(".cameras");
let painted = new Set(); // "camera row column", as JSON
let adding = null; // whether the pointer that is down paints or wipes

const keyOf = (name, row, column) => JSON.stringify([name, row, column]);

function commit() {
  const value = {};
  for (const key of painted) {
    const [name, row, column] = JSON.parse(key);
    (value[name] ??= []).push([row, column]);
  }
  props.value = value;
}

function build() {
  const cells = Object.entries(props.value ?? {});
  painted = new Set(cells.flatMap(([name, all]) => all.map(([row, column]) => keyOf(name, row, column))));
  element.querySelector(".hint").hidden = props.pictures.length > 0;
  element.querySelector(".clear").hidden = props.pictures.length === 0;
  cameras.replaceChildren(...props.pictures.map(canvas));
}

function canvas({ name, picture }) {
  const figure = document.createElement("figure");
  const caption = document.createElement("figcaption");
  caption.textContent = name;
  const frame = document.createElement("div");
  frame.className = "canvas";
  const image = new Image();
  image.src = picture;
  image.alt = `First frame of ${name}`;
  frame.append(image, grid(name));
  figure.append(caption, frame);
  return figure;
}

function grid(name) {
  const [rows, columns] = props.grid;
  const svg = document.createElementNS("http://www.w3.org/2000/svg", "svg");
  svg.setAttribute("viewBox", `0 0 ${columns} ${rows}`);
  svg.setAttribute("preserveAspectRatio", "none");
  for (let row = 0; row < rows; row++) {
    for (let column = 0; column < columns; column++) {
      const cell = document.createElementNS("http://www.w3.org/2000/svg", "rect");
      const place = { x: column, y: row, width: 1, height: 1 };
      for (const [key, content] of Object.entries(place)) cell.setAttribute(key, content);
      cell.dataset.key = keyOf(name, row, column);
      cell.classList.toggle("painted", painted.has(cell.dataset.key));
      svg.append(cell);
    }
  }
  svg.addEventListener("pointerdown", (event) => {
    event.preventDefault();
    adding = !painted.has(event.target.dataset.key);
    touch(event);
  });
  svg.addEventListener("pointermove", (event) => { if (adding !== null) touch(event); });
  return svg;
}

function touch(event) {
  const cell = document.elementFromPoint(event.clientX, event.clientY);
  const key = cell?.dataset.key;
  if (!key || !element.contains(cell)) return;
  adding ? painted.add(key) : painted.delete(key);
  cell.classList.toggle("painted", adding);
}

window.addEventListener("pointerup", () => {
  if (adding === null) return;
  adding = null;
  commit();
});
element.querySelector(".clear").addEventListener("click", () => {
  painted.clear();
  commit();
  build();
});
// Gradio takes a name in quotes for one of an event, so that these have none.
watch(Object.keys({ value: 0, pictures: 0, grid: 0 }), build);
build();
