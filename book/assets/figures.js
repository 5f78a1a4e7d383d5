// Draws <div class="ctr-figure"><script type="application/json">{data, layout, frames}</script></div>.
// Plotly lies beside this file. It is fetched on pages with a figure only, and a figure is drawn when it comes
// near the screen. When the reader changes between light and dark, drawn figures change their colours.
(() => {
  "use strict";
  const folder = document.currentScript.src.replace(/[^/]*$/, "");
  const LIGHT = { ink: "#222832", faint: "#d5dae3", paper: "#ffffff" };
  const DARK = { ink: "#ced6dd", faint: "#3d4756", paper: "#1e2530" };
  const isDark = () => document.documentElement.dataset.theme === "dark";

  // Only what depends on the theme; everything else is the figure's own.
  function themeUpdate(layout) {
    const { ink, faint, paper } = isDark() ? DARK : LIGHT;
    const update = {
      paper_bgcolor: "rgba(0,0,0,0)", plot_bgcolor: "rgba(0,0,0,0)", "font.color": ink,
      "hoverlabel.bgcolor": paper, "hoverlabel.font.color": ink, "hoverlabel.bordercolor": faint,
      "modebar.bgcolor": "rgba(0,0,0,0)", "modebar.color": faint, "modebar.activecolor": ink,
    };
    for (const key of Object.keys(layout)) {
      if (!/^[xy]axis\d*$/.test(key)) continue;
      for (const part of ["gridcolor", "zerolinecolor", "linecolor"]) update[`${key}.${part}`] = faint;
    }
    (layout.updatemenus || []).forEach((_, i) => {
      Object.assign(update, { [`updatemenus[${i}].bgcolor`]: paper, [`updatemenus[${i}].bordercolor`]: faint,
        [`updatemenus[${i}].font.color`]: ink });
    });
    (layout.sliders || []).forEach((_, i) => {
      Object.assign(update, { [`sliders[${i}].bgcolor`]: faint, [`sliders[${i}].font.color`]: ink });
    });
    return update;
  }

  async function draw(box) {
    const figure = JSON.parse(box.querySelector("script").textContent);
    const plot = document.createElement("div");
    plot.style.height = `${(figure.layout && figure.layout.height) || 450}px`;
    box.append(plot);
    const config = { responsive: true, displaylogo: false, ...figure.config };
    await Plotly.newPlot(plot, { data: figure.data, layout: figure.layout, frames: figure.frames, config });
    await Plotly.relayout(plot, themeUpdate(plot._fullLayout));
    box.dataset.drawn = "yes";
  }

  function fail(box, reason) {
    box.dataset.drawn = "failed";
    box.append(`This figure could not be drawn: ${reason}`);
  }

  function watch(boxes) {
    const near = new IntersectionObserver((entries) => {
      for (const entry of entries.filter((e) => e.isIntersecting)) {
        near.unobserve(entry.target);
        draw(entry.target).catch((error) => fail(entry.target, error.message));
      }
    }, { rootMargin: "600px" });
    boxes.forEach((box) => near.observe(box));
    new MutationObserver(() => {
      for (const plot of document.querySelectorAll(".ctr-figure[data-drawn=yes] > .js-plotly-plot")) {
        Plotly.relayout(plot, themeUpdate(plot._fullLayout));
      }
    }).observe(document.documentElement, { attributes: true, attributeFilter: ["data-theme"] });
  }

  function start() {
    const boxes = [...document.querySelectorAll(".ctr-figure")];
    if (!boxes.length) return;
    const plotly = document.createElement("script");
    plotly.src = `${folder}plotly.min.js`;
    plotly.onload = () => watch(boxes);
    plotly.onerror = () => boxes.forEach((box) => fail(box, "plotly.min.js is missing."));
    document.head.append(plotly);
  }

  if (document.readyState === "loading") document.addEventListener("DOMContentLoaded", start);
  else start();
})();
