// Filters <div class="ctr-claims">: by paper, verdict, chapter and words. What is chosen stands in the address
// (#paper=...&verdict=...), so that a filtered view can be shared; #claim-ID opens one claim. Without this script the
// claims are a plain list that opens and closes.
(() => {
  "use strict";

  function start(box) {
    const form = box.querySelector("form");
    const count = box.querySelector(".ctr-count");
    const claims = [...box.querySelectorAll("details")].map((details) => ({
      details,
      paper: details.dataset.paper,
      verdict: details.dataset.verdict,
      chapter: details.closest("section").dataset.chapter,
      text: `${details.id.slice(6)} ${details.textContent}`.toLowerCase(),
    }));

    const chosen = () => Object.fromEntries([...new FormData(form)].filter(([, value]) => value.trim()));

    // Every word must occur in a claim, in any order and case.
    function apply() {
      const wanted = chosen();
      const words = (wanted.word || "").toLowerCase().split(/\s+/).filter(Boolean);
      let shown = 0;
      for (const claim of claims) {
        const fits = ["paper", "verdict", "chapter"].every((key) => !wanted[key] || wanted[key] === claim[key]);
        claim.details.hidden = !(fits && words.every((word) => claim.text.includes(word)));
        shown += !claim.details.hidden;
      }
      for (const section of box.querySelectorAll("section")) {
        section.hidden = !section.querySelector("details:not([hidden])");
      }
      count.textContent = `${shown} of ${claims.length} claims`;
    }

    function keepInAddress() {
      const state = new URLSearchParams(chosen()).toString();
      const address = location.pathname + location.search + (state ? `#${state}` : "");
      try {
        history.replaceState(null, "", address);
      } catch {
        location.hash = state; // some browsers allow no other way for a file on disk
      }
    }

    function clear() {
      for (const field of form.elements) if (field.name) field.value = "";
    }

    // Read the address: a claim to open, or what to filter by. Values that are not on offer are left out.
    function follow() {
      const hash = decodeURIComponent(location.hash.slice(1));
      box.querySelectorAll("details.target").forEach((details) => details.classList.remove("target"));
      if (hash.startsWith("claim-")) {
        const claim = claims.find(({ details }) => details.id === hash);
        if (!claim) return apply();
        if (claim.details.hidden) clear();
        apply();
        claim.details.open = true;
        claim.details.classList.add("target");
        claim.details.scrollIntoView();
        return undefined;
      }
      if (hash && !hash.includes("=")) return apply(); // a section of the page
      clear();
      for (const [name, value] of new URLSearchParams(location.hash.slice(1))) {
        const field = form.elements.namedItem(name);
        if (field && (field.tagName !== "SELECT" || [...field.options].some((o) => o.value === value))) {
          field.value = value;
        }
      }
      apply();
      if (Object.keys(chosen()).length) form.scrollIntoView();
      return undefined;
    }

    const changed = () => { apply(); keepInAddress(); };
    form.addEventListener("input", changed);
    form.addEventListener("submit", (event) => event.preventDefault());
    form.addEventListener("reset", (event) => { event.preventDefault(); clear(); changed(); });
    addEventListener("hashchange", follow);
    form.hidden = false;
    follow();
    box.dataset.ready = "yes";
  }

  const all = () => document.querySelectorAll(".ctr-claims").forEach(start);
  if (document.readyState === "loading") document.addEventListener("DOMContentLoaded", all);
  else all();
})();
