"use strict";
// Draws the entries of an index as points: zoom by wheel, buttons, keys or two fingers; a picture under the pointer.
(() => {
  const section = document.querySelector(".map");
  if (!section) return;
  const canvas = section.querySelector("canvas");
  const hovered = document.querySelector("#hovered");
  const status = document.querySelector("#status");
  const context = canvas.getContext("2d");
  const NEAR_PX = 14;
  const MARGIN = 0.06;
  let data = null;
  let view = { x: 0, y: 0, scale: 1 }; // the middle of the canvas, and pixels for a unit
  let whole = view;
  let current = -1;
  const pointers = new Map();
  let moved = 0;

  const size = () => ({ width: canvas.clientWidth, height: canvas.clientHeight });
  const placed = ([x, y]) => {
    const { width, height } = size();
    return [(x - view.x) * view.scale + width / 2, height / 2 - (y - view.y) * view.scale];
  };
  const color = (number) => {
    const style = number === data.others ? 13 : 4 + (number % 9);
    return getComputedStyle(document.documentElement).getPropertyValue(`--c${style}`).trim();
  };

  function fit() {
    const { width, height } = size();
    const xs = data.points.map((point) => point[0]);
    const ys = data.points.map((point) => point[1]);
    const [left, right, low, high] = [Math.min(...xs), Math.max(...xs), Math.min(...ys), Math.max(...ys)];
    const scale = Math.min(width / (right - left || 1), height / (high - low || 1)) * (1 - 2 * MARGIN);
    whole = { x: (left + right) / 2, y: (low + high) / 2, scale };
    view = { ...whole };
  }

  function draw() {
    if (!data) return;
    const { width, height } = size();
    const ratio = devicePixelRatio || 1;
    canvas.width = width * ratio;
    canvas.height = height * ratio;
    context.setTransform(ratio, 0, 0, ratio, 0, 0);
    context.clearRect(0, 0, width, height);
    const radius = Math.min(9, 2.6 * Math.sqrt(view.scale / whole.scale) + 0.6);
    const colors = data.legend.map((_, number) => color(number));
    context.globalAlpha = 0.8;
    for (const point of data.points) {
      const [x, y] = placed(point);
      if (x < -9 || y < -9 || x > width + 9 || y > height + 9) continue;
      context.fillStyle = colors[point[2]];
      context.beginPath();
      context.arc(x, y, radius, 0, 7);
      context.fill();
    }
    if (current >= 0) {
      const [x, y] = placed(data.points[current]);
      context.globalAlpha = 1;
      context.lineWidth = 2;
      context.strokeStyle = getComputedStyle(canvas).color;
      context.fillStyle = colors[data.points[current][2]];
      context.beginPath();
      context.arc(x, y, radius + 3, 0, 7);
      context.fill();
      context.stroke();
    }
    showCurrent();
  }

  function showCurrent() {
    hovered.hidden = current < 0;
    if (current < 0) return;
    const [x, y] = placed(data.points[current]);
    const { width, height } = size();
    const side = hovered.offsetWidth || 168;
    const tall = hovered.offsetHeight || 200;
    const left = Math.max(4, Math.min(width - side - 4, x + 16));
    const top = Math.max(4, Math.min(height - tall - 4, y - tall / 2));
    hovered.style.transform = `translate(${Math.round(left)}px, ${Math.round(top)}px)`;
  }

  function choose(number, said = false) {
    if (number === current) return;
    current = number;
    if (number >= 0) {
      hovered.replaceChildren();
      if (section.dataset.pictures) {
        const picture = new Image(152, 152);
        picture.alt = "";
        picture.src = section.dataset.pictures + data.ids[number];
        hovered.append(picture);
      }
      const title = document.createElement("b");
      title.textContent = data.titles[number];
      const kind = document.createElement("div");
      kind.className = "soft";
      kind.textContent = data.legend[data.points[number][2]];
      hovered.append(title, kind);
      if (said) status.textContent = `${data.titles[number]}, ${kind.textContent}`;
    }
    canvas.classList.toggle("held", pointers.size > 0);
    draw();
  }

  function nearest(x, y, within) {
    let best = -1;
    let least = within * within;
    data.points.forEach((point, number) => {
      const [px, py] = placed(point);
      const distance = (px - x) ** 2 + (py - y) ** 2;
      if (distance < least) [best, least] = [number, distance];
    });
    return best;
  }

  function zoom(factor, x, y) {
    const { width, height } = size();
    const scale = Math.max(whole.scale * 0.5, Math.min(whole.scale * 200, view.scale * factor));
    const [dx, dy] = [x - width / 2, height / 2 - y];
    view.x += dx / view.scale - dx / scale;
    view.y += dy / view.scale - dy / scale;
    view.scale = scale;
    draw();
  }

  const search = (number) => {
    if (number >= 0) location.href = section.dataset.search + data.ids[number];
  };

  canvas.addEventListener("wheel", (event) => {
    event.preventDefault();
    zoom(Math.exp(-event.deltaY * (event.deltaMode ? 0.05 : 0.0015)), event.offsetX, event.offsetY);
  }, { passive: false });

  canvas.addEventListener("pointerdown", (event) => {
    canvas.setPointerCapture(event.pointerId);
    pointers.set(event.pointerId, [event.offsetX, event.offsetY]);
    if (pointers.size === 1) moved = 0;
  });
  canvas.addEventListener("pointermove", (event) => {
    if (!data) return;
    const before = pointers.get(event.pointerId);
    const here = [event.offsetX, event.offsetY];
    if (!before) return choose(nearest(...here, NEAR_PX));
    const others = [...pointers].filter(([id]) => id !== event.pointerId).map(([, place]) => place);
    pointers.set(event.pointerId, here);
    moved += Math.abs(here[0] - before[0]) + Math.abs(here[1] - before[1]);
    if (others.length) {
      const span = (place) => Math.hypot(place[0] - others[0][0], place[1] - others[0][1]) || 1;
      zoom(span(here) / span(before), (here[0] + others[0][0]) / 2, (here[1] + others[0][1]) / 2);
    } else {
      view.x -= (here[0] - before[0]) / view.scale;
      view.y += (here[1] - before[1]) / view.scale;
      draw();
    }
    return undefined;
  });
  const released = (event) => {
    if (!pointers.delete(event.pointerId) || !data || event.type === "pointercancel" || moved > 6) return;
    const hit = nearest(event.offsetX, event.offsetY, NEAR_PX);
    // A finger shows first what a pointer shows by hovering.
    if (event.pointerType === "mouse" || hit === current) search(hit);
    else choose(hit, true);
  };
  canvas.addEventListener("pointerup", released);
  canvas.addEventListener("pointercancel", released);
  canvas.addEventListener("pointerleave", () => !pointers.size && data && choose(-1));

  // The next point to the right, and from the last one the first: an order that a map does not have by itself.
  function step(by) {
    const order = data.points.map((_, number) => number).sort((a, b) => data.points[a][0] - data.points[b][0]);
    const place = order.indexOf(current);
    const next = order[(place + by + order.length) % order.length];
    const [x, y] = placed(data.points[next]);
    const { width, height } = size();
    if (x < 0 || y < 0 || x > width || y > height) [view.x, view.y] = data.points[next];
    choose(next, true);
  }

  canvas.addEventListener("keydown", (event) => {
    if (!data || event.ctrlKey || event.metaKey || event.altKey) return;
    const { width, height } = size();
    const by = 60 / view.scale;
    const keys = {
      ArrowLeft: () => (view.x -= by),
      ArrowRight: () => (view.x += by),
      ArrowUp: () => (view.y += by),
      ArrowDown: () => (view.y -= by),
      "+": () => zoom(1.4, width / 2, height / 2),
      "-": () => zoom(1 / 1.4, width / 2, height / 2),
      0: () => (view = { ...whole }),
      n: () => step(1),
      p: () => step(-1),
      Enter: () => search(current),
      Escape: () => choose(-1),
    };
    const action = keys[event.key];
    if (!action) return;
    event.preventDefault();
    action();
    draw();
  });

  section.querySelector(".tools").addEventListener("click", (event) => {
    const what = event.target.dataset.zoom;
    if (!what || !data) return;
    const { width, height } = size();
    if (what === "all") view = { ...whole };
    else zoom(what === "in" ? 1.6 : 1 / 1.6, width / 2, height / 2);
    draw();
  });

  function legend() {
    const list = document.querySelector("#legend");
    data.legend.forEach((name, number) => {
      const item = document.createElement("li");
      const dot = document.createElement("i");
      dot.style.background = color(number);
      item.append(dot, name);
      list.append(item);
    });
  }

  async function load() {
    try {
      const answer = await fetch(section.dataset.points, { headers: { Accept: "application/json" } });
      const told = await answer.json();
      if (!answer.ok) throw new Error(told.error);
      data = told;
      fit();
      draw();
      legend();
    } catch (error) {
      const problem = document.querySelector("#problem");
      problem.textContent = `The map can't be shown: ${error instanceof TypeError ? "the server does not answer" : error.message}`;
      problem.hidden = false;
    }
  }

  new ResizeObserver(draw).observe(canvas);
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => {
    document.querySelector("#legend").replaceChildren();
    if (data) legend();
    draw();
  });
  load();
})();
