// Plays the video of all cameras or of one, with the agents' boxes drawn on it or not.
//
// props.value is null or {video, size, frame_rate, cameras, boxes}, see gaia2/app/results.py; props.colours has the
// colour of each kind of agent.

const find = (selector) => element.querySelector(selector);
const video = find("video");
const overlay = find("svg");
const camera = find(".camera");

function load() {
  const result = props.value;
  find(".empty").hidden = Boolean(result);
  find(".stage").hidden = find(".bar").hidden = !result;
  video.pause();
  if (!result) return;
  const chosen = camera.value;
  camera.replaceChildren(new Option("all", "all"), ...result.cameras.map(({ name }) => new Option(name, name)));
  camera.value = result.cameras.some(({ name }) => name === chosen) ? chosen : "all";
  const { root = "", api_prefix = "/gradio_api" } = window.gradio_config ?? {};
  video.src = `${root}${api_prefix}/file=${encodeURI(result.video)}`;
  show();
  video.play().catch(() => {}); // a browser may want a click first
}

// Fill the stage with the mosaic or with the tile of one camera.
function show() {
  const [left, top, width, height] = tileOf(camera.value);
  find(".stage").style.aspectRatio = (props.value.size * width) / height;
  const picture = find(".picture");
  picture.style.width = `${100 / width}%`;
  picture.style.aspectRatio = props.value.size;
  picture.style.transform = `translate(${-100 * left}%, ${-100 * top}%)`;
}

function tileOf(name) {
  return props.value.cameras.find((one) => one.name === name)?.tile ?? [0, 0, 1, 1];
}

function drawBoxes() {
  overlay.replaceChildren();
  const { boxes, frame_rate, cameras } = props.value;
  if (!find(".boxes").checked) return;
  const frame = Math.min(boxes.length - 1, Math.floor(video.currentTime * frame_rate + 1e-3));
  for (const [index, category, x, y, width, height] of boxes[frame]) {
    const [left, top, across, down] = cameras[index].tile;
    const box = document.createElementNS("http://www.w3.org/2000/svg", "rect");
    const place = { x: left + across * x, y: top + down * y, width: across * width, height: down * height };
    for (const [name, content] of Object.entries(place)) box.setAttribute(name, content);
    box.setAttribute("stroke", props.colours[category]);
    overlay.append(box);
  }
}

function tick() {
  if (!element.isConnected) return;
  if (props.value && video.duration) {
    find(".seek").max = video.duration;
    find(".seek").value = video.currentTime;
    find(".time").textContent = `${video.currentTime.toFixed(1)} s`;
    find(".play").textContent = video.paused ? "Play" : "Pause";
    drawBoxes();
  }
  requestAnimationFrame(tick);
}

find(".play").addEventListener("click", () => (video.paused ? video.play() : video.pause()));
find(".seek").addEventListener("input", (event) => { video.currentTime = Number(event.target.value); });
camera.addEventListener("change", show);
watch("value", load);
load();
tick();
