// The model gallery: a menu of schemas that changes the parameters shown, buttons that leave one family, and cards
// that open when an address or a link names them, on the page on data too. Without this script all cards are there,
// closed.
(() => {
  "use strict";

  // A cell's data-value is what tables.js sorts by.
  function showCounts(which) {
    for (const place of document.querySelectorAll("[data-counts]")) {
      const count = place.dataset.counts.split("|")[which];
      if ("value" in place.dataset) place.dataset.value = count;
      place.textContent = Number(count).toLocaleString("en");
    }
  }

  function showFamily(controls, chosen) {
    for (const button of controls.querySelectorAll("button")) {
      button.setAttribute("aria-pressed", String(button.dataset.family === chosen));
    }
    const isOther = (element) => Boolean(chosen) && element.dataset.family !== chosen;
    const rows = [...document.querySelectorAll(".ctr-gallery tr[data-family]")];
    rows.forEach((row) => row.classList.toggle("ctr-other", isOther(row)));
    for (const cards of document.querySelectorAll(".ctr-cards")) {
      (cards.closest("section") || cards).hidden = isOther(cards);
    }
    const left = rows.filter((row) => !isOther(row)).length;
    controls.querySelector("[role=status]").textContent = chosen ? `${left} of ${rows.length} systems` : "";
  }

  // Hundreds of equations take seconds to set, so those of a card wait until it opens. One call at a time.
  let before = Promise.resolve();
  function setEquations(box) {
    const closed = (element) => element.closest("details:not([open])");
    const waiting = [...box.querySelectorAll(".ctr-math:not([data-set])")].filter((element) => !closed(element));
    if (!waiting.length || !window.MathJax) return;
    waiting.forEach((element) => { element.dataset.set = "yes"; });
    before = before.then(() => MathJax.startup.promise).then(() => MathJax.typesetPromise(waiting))
      .catch((error) => console.error(error));
  }

  function openNamed() {
    const found = document.getElementById(decodeURIComponent(location.hash.slice(1)));
    if (!found || !found.closest(".ctr-gallery")) return;
    const section = found.closest("section[hidden]");
    if (section) showFamily(document.querySelector(".ctr-controls"), "");
    for (let box = found.closest("details"); box; box = box.parentElement.closest("details")) box.open = true;
    document.querySelectorAll(".ctr-aimed").forEach((card) => card.classList.remove("ctr-aimed"));
    (found.closest(".ctr-card") || found).classList.add("ctr-aimed");
    found.scrollIntoView();
  }

  function start() {
    if (!document.querySelector(".ctr-gallery")) return;
    const controls = document.querySelector(".ctr-controls"); // the page on data has cards alone
    if (controls) {
      controls.hidden = false;
      controls.querySelector("select").addEventListener("change", (event) => showCounts(Number(event.target.value)));
      for (const button of controls.querySelectorAll("button")) {
        button.addEventListener("click", () => showFamily(controls, button.dataset.family));
      }
      showCounts(Number(controls.querySelector("select").value)); // a reloaded page keeps the reader's choice
    }
    document.addEventListener("toggle", (event) => setEquations(event.target), true);
    addEventListener("hashchange", openNamed);
    document.addEventListener("click", (event) => { // a link to the card that the address names already
      const link = event.target.closest("a[href^='#']");
      if (link && link.hash === location.hash) openNamed();
    });
    openNamed();
    document.querySelectorAll(".ctr-gallery").forEach(setEquations);
  }

  if (document.readyState === "complete") start();
  else document.addEventListener("DOMContentLoaded", start); // MathJax is there by then
})();
