// Draws <div class="ctr-figure" data-figure="NAME"><div class="ctr-plot"></div></div>.
// plotly lies beside this file, and the figure's data, layout and frames in figures/NAME.js. Both are fetched when the
// figure comes near the screen. Its sliders and menus become controls of the browser, which a keyboard reaches. When the
// reader changes between light and dark, drawn figures change their colours.
(() => {
  "use strict";
  const folder = document.currentScript.src.replace(/[^/]*$/, "");
  const LIGHT = { ink: "#222832", faint: "#d5dae3", paper: "#ffffff" };
  const DARK = { ink: "#ced6dd", faint: "#3d4756", paper: "#1e2530" };
  const NARROW = 560; // pixels; below, a figure has smaller letters, narrow margins and broken labels
  const LABEL = 14; // letters of a label in a narrow figure, before it is broken
  const SLIDER_ROOM = 80; // pixels that plotly would keep below a figure for its own slider
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

  function narrow(layout) {
    layout.font = { ...layout.font, size: 11 };
    layout.margin = { l: 10, r: 10, t: 56, b: 40, ...layout.margin };
    layout.dragmode = false; // a finger on the figure moves the page
    for (const axis of axesOf(layout).map((key) => layout[key])) {
      if (axis.ticktext) axis.ticktext = axis.ticktext.map(broken);
      if (axis.title && axis.title.text) axis.title.text = axis.title.text.replace(/(.{24,}?) /g, "$1<br>");
    }
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
    const { data, layout: { sliders, updatemenus, ...layout }, frames, config } = window.ctrFigures[name];
    const plot = box.querySelector(".ctr-plot");
    addControls(box, plot, { sliders, updatemenus });
    if (sliders && layout.height) layout.height -= SLIDER_ROOM;
    plot.style.height = `${layout.height || 450}px`;
    if (box.clientWidth < NARROW) narrow(layout);
    for (const [key, value] of Object.entries(themeUpdate(layout))) set(layout, key, value);
    const own = { responsive: true, displaylogo: false, modeBarButtons: [BUTTONS], ...config };
    await Plotly.newPlot(plot, { data, layout, frames, config: own });
    box.dataset.drawn = "yes";
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
        Plotly.relayout(plot, themeUpdate(plot._fullLayout));
      }
    }).observe(document.documentElement, { attributes: true, attributeFilter: ["data-theme"] });
  }

  if (document.readyState === "loading") document.addEventListener("DOMContentLoaded", start);
  else start();
})();
