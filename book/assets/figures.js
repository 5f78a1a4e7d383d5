// Draws <div class="ctr-figure" data-figure="NAME"><div class="ctr-plot"><img></div></div>. The picture stands there until
// the figure is drawn, since plotly takes seconds to start. plotly lies beside this file, and the figure's data, layout
// and frames in figures/NAME.js. Both are fetched when the figure comes near the screen. Its title becomes text of the
// page, its sliders and menus become controls of the browser, which a keyboard reaches. When the reader changes between
// light and dark, drawn figures change their colours.
(() => {
  "use strict";
  const folder = document.currentScript.src.replace(/[^/]*$/, "");
  const LIGHT = { ink: "#222832", faint: "#d5dae3", paper: "#ffffff" };
  const DARK = { ink: "#ced6dd", faint: "#3d4756", paper: "#1e2530" };
  const NARROW = 560; // pixels; below, a figure has smaller letters, narrow margins and broken labels
  const LABEL = 18; // letters of a label in a narrow figure, before it is broken
  const LINE = 14; // pixels of a line of such a label
  const SLIDER_ROOM = 80; // pixels that plotly would keep below a figure for its own slider
  const TOP = 30; // pixels above the axes, without a title; a legend takes more by itself
  const BUTTONS = ["zoom2d", "pan2d", "resetScale2d", "toImage"];
  const isDark = () => document.documentElement.dataset.theme === "dark";
  const axesOf = (layout) => Object.keys(layout).filter((key) => /^[xy]axis\d*$/.test(key));

  const loading = {};
  function load(address) {
    loading[address] ??= new Promise((done, failed) => {
      const script = document.createElement("script");
      script.src = folder + address;
      script.onload = done;
      script.onerror = () => failed(new Error(`${address} is missing.`));
      document.head.append(script);
    });
    return loading[address];
  }

  // Only what depends on the theme; everything else is the figure's own. Keys are plotly's: "font.color".
  function themeUpdate(layout) {
    const { ink, faint, paper } = isDark() ? DARK : LIGHT;
    const update = {
      paper_bgcolor: "rgba(0,0,0,0)", plot_bgcolor: "rgba(0,0,0,0)", "font.color": ink,
      "hoverlabel.bgcolor": paper, "hoverlabel.font.color": ink, "hoverlabel.bordercolor": faint,
      "modebar.bgcolor": "rgba(0,0,0,0)", "modebar.color": faint, "modebar.activecolor": ink,
    };
    (layout.shapes || []).forEach((_, i) => { update[`shapes[${i}].line.color`] = ink; });
    for (const axis of new Set(["xaxis", "yaxis", ...axesOf(layout)])) {
      for (const part of ["gridcolor", "zerolinecolor", "linecolor"]) update[`${axis}.${part}`] = faint;
    }
    return update;
  }

  function set(layout, key, value) {
    const parts = key.split(".");
    const last = parts.pop();
    let place = layout;
    for (const part of parts) place = place[part] ??= {};
    place[last] = value;
  }

  // "a long label" becomes lines of at most LABEL letters, broken between words.
  function broken(label) {
    const lines = [""];
    for (const word of String(label).split(" ")) {
      const longer = `${lines.at(-1)} ${word}`.trim();
      if (lines.at(-1) && longer.length > LABEL) lines.push(word);
      else lines[lines.length - 1] = longer;
    }
    return lines.join("<br>");
  }

  function narrow(layout, width) {
    layout.font = { ...layout.font, size: 11 };
    Object.assign(layout.margin, { l: 10, r: 10, b: 40 });
    layout.dragmode = false; // a finger on the figure moves the page
    for (const key of axesOf(layout)) {
      const axis = layout[key];
      if (axis.ticktext) {
        axis.ticktext = axis.ticktext.map(broken);
        const lines = Math.max(...axis.ticktext.map((label) => label.split("<br>").length));
        const least = axis.ticktext.length * (lines * LINE + 4) + layout.margin.t + layout.margin.b;
        if (key[0] === "y") layout.height = Math.max(layout.height, least);
      }
      if (axis.title && axis.title.text) axis.title.text = axis.title.text.replace(/(.{24,}?) /g, "$1<br>");
    }
    regrid(layout, width);
  }

  // Panels that stand side by side and became too narrow get rows of fewer panels, each about as high as wide.
  function regrid(layout, width) {
    const panels = axesOf(layout).filter((key) => key[0] === "x" && layout[key].domain).map((key) => {
      const [x, y] = [layout[key], layout[key.replace("x", "y")]];
      const above = (note) => Math.abs(note.x - (x.domain[0] + x.domain[1]) / 2) < 0.01 && note.y === y.domain[1];
      return { x, y, title: (layout.annotations || []).find(above) };
    });
    const bare = panels.every(({ y }) => y.showticklabels === false);
    const [least, between] = bare ? [140, 30] : [240, 120]; // pixels: of a panel, and from one row to the next
    const columns = Math.min(panels.length, Math.max(1, Math.floor(width / least)));
    if (panels.length < 2 || (panels[0].x.domain[1] - panels[0].x.domain[0]) * width >= least) return;
    const rows = Math.ceil(panels.length / columns);
    const side = (bare ? 1 : 0.65) * width / columns; // names of ticks take from the width
    const high = rows * side + (rows - 1) * between;
    panels.forEach(({ x, y, title }, i) => {
      const gap = columns > 1 ? 0.03 : 0;
      const left = i % columns / columns;
      const top = 1 - Math.floor(i / columns) * (side + between) / high;
      x.domain = [left ? left + gap / 2 : 0, left + 1 / columns < 1 ? left + 1 / columns - gap / 2 : 1];
      y.domain = [Math.max(0, top - side / high), top];
      if (!bare) y.showticklabels = true; // a panel may have shared the names of the one on its left
      if (title) Object.assign(title, { x: (x.domain[0] + x.domain[1]) / 2, y: top });
    });
    layout.height = high + layout.margin.t + layout.margin.b;
  }

  // Shows one step after the other. Of those that are asked for meanwhile, only the last is shown.
  function stepper(box, plot) {
    let wanted = null;
    let busy = Promise.resolve();
    return (step) => {
      const idle = wanted === null;
      wanted = step;
      if (!idle) return;
      busy = busy.then(() => {
        const { method, args } = wanted;
        wanted = null;
        return Plotly[method](plot, ...args);
      }).catch((error) => fail(box, error.message));
    };
  }

  function labelled(words, control) {
    const label = document.createElement("label");
    label.append(words, " ", control);
    return label;
  }

  function sliderOf({ steps, active = 0, currentvalue = {} }, show) {
    const input = document.createElement("input");
    const value = document.createElement("output");
    Object.assign(input, { type: "range", min: 0, max: steps.length - 1, step: 1, value: active });
    const tell = () => {
      value.textContent = steps[input.value].label;
      input.setAttribute("aria-valuetext", value.textContent);
    };
    input.addEventListener("input", () => { tell(); show(steps[input.value]); });
    tell();
    const label = labelled((currentvalue.prefix || "step").trim(), input);
    label.append(value);
    return label;
  }

  function menuOf({ buttons, active = 0, name = "show" }, show) {
    const select = document.createElement("select");
    buttons.forEach(({ label }, i) => select.add(new Option(label, i, i === active, i === active)));
    select.addEventListener("change", () => show(buttons[select.value]));
    return labelled(name, select);
  }

  function addTitle(plot, title) {
    const words = typeof title === "string" ? title : title?.text;
    if (!words) return;
    const line = document.createElement("p");
    line.className = "ctr-title";
    line.textContent = words.replace(/<br>/g, " ").replace(/<[^>]*>/g, "");
    plot.before(line);
  }

  function addControls(box, plot, { sliders = [], updatemenus = [] }) {
    if (!sliders.length && !updatemenus.length) return;
    const show = stepper(box, plot);
    const bar = document.createElement("div");
    bar.className = "ctr-controls";
    bar.append(...updatemenus.map((menu) => menuOf(menu, show)), ...sliders.map((slider) => sliderOf(slider, show)));
    plot.before(bar);
  }

  async function draw(box) {
    const name = box.dataset.figure;
    await Promise.all([load("plotly.min.js"), load(`figures/${name}.js`)]);
    const { data, layout: { title, sliders, updatemenus, ...layout }, frames, config } = window.ctrFigures[name];
    const plot = box.querySelector(".ctr-plot");
    const picture = plot.querySelector("img");
    addTitle(plot, title);
    addControls(box, plot, { sliders, updatemenus });
    const { l = 60, r = 20, t = 64, b = 50 } = { ...layout.template?.layout?.margin, ...layout.margin };
    layout.margin = { l, r, t: Math.min(t, TOP), b };
    layout.height = (layout.height || 450) - (t - layout.margin.t) - (sliders ? SLIDER_ROOM : 0);
    layout.font = { ...layout.font, family: getComputedStyle(box).fontFamily };
    if (box.clientWidth < NARROW) narrow(layout, box.clientWidth);
    plot.style.height = `${layout.height}px`;
    for (const [key, value] of Object.entries(themeUpdate(layout))) set(layout, key, value);
    const own = { responsive: true, displaylogo: false, modeBarButtons: [BUTTONS], ...config };
    await Plotly.newPlot(plot, { data, layout, frames, config: own });
    picture?.remove();
    tellColours(box);
    box.dataset.drawn = "yes";
  }

  function tellColours(box) {
    box.dataset.colours = isDark() ? "dark" : "light";
  }

  function fail(box, reason) {
    box.dataset.drawn = "failed";
    box.append(`This figure could not be drawn: ${reason}`);
  }

  function start() {
    const boxes = document.querySelectorAll(".ctr-figure");
    if (!boxes.length) return;
    load("plotly.min.js").catch(() => {}); // early, for it is large; a figure that needs it says what is wrong
    let turn = Promise.resolve();
    const near = new IntersectionObserver((entries) => {
      for (const { target } of entries.filter((entry) => entry.isIntersecting)) {
        near.unobserve(target);
        turn = turn.then(() => draw(target)).catch((error) => fail(target, error.message));
      }
    }, { rootMargin: "600px" });
    boxes.forEach((box) => near.observe(box));
    new MutationObserver(() => {
      for (const plot of document.querySelectorAll(".ctr-figure[data-drawn=yes] > .ctr-plot")) {
        Plotly.relayout(plot, themeUpdate(plot._fullLayout)).then(() => tellColours(plot.parentElement));
      }
    }).observe(document.documentElement, { attributes: true, attributeFilter: ["data-theme"] });
  }

  if (document.readyState === "loading") document.addEventListener("DOMContentLoaded", start);
  else start();
})();
