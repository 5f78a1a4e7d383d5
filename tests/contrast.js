// Returns what a reader could hardly see: text whose contrast with its background is below WCAG's 4.5 (3 if large).
() => {
  const pixel = Object.assign(document.createElement("canvas"), { width: 1, height: 1 }).getContext("2d", {
    willReadFrequently: true,
  });
  const known = new Map();
  function rgba(colour) {
    if (!known.has(colour)) {
      pixel.clearRect(0, 0, 1, 1);
      pixel.fillStyle = colour;
      pixel.fillRect(0, 0, 1, 1);
      const [r, g, b, a] = pixel.getImageData(0, 0, 1, 1).data;
      known.set(colour, [r, g, b, a / 255]);
    }
    return known.get(colour);
  }
  const over = ([r, g, b, a], below) => [r, g, b].map((part, i) => a * part + (1 - a) * below[i]);
  const light = (colour) => {
    const [r, g, b] = colour.map((part) => part / 255).map((c) => (c <= 0.04045 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4));
    return 0.2126 * r + 0.7152 * g + 0.0722 * b;
  };
  const ratio = (a, b) => (Math.max(light(a), light(b)) + 0.05) / (Math.min(light(a), light(b)) + 0.05);

  const white = { colour: [255, 255, 255], opacity: 1 };
  const grounds = new Map();
  function ground(element) { // what lies below an element's text, and how much of the text is seen
    if (!element) return white;
    if (!grounds.has(element)) {
      const { colour, opacity } = ground(element.parentElement);
      const style = getComputedStyle(element);
      grounds.set(element, {
        colour: over(rgba(style.backgroundColor), colour), opacity: opacity * Number(style.opacity),
      });
    }
    return grounds.get(element);
  }

  const found = new Map();
  const texts = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  while (texts.nextNode()) {
    const element = texts.currentNode.parentElement;
    const words = texts.currentNode.textContent.trim();
    if (!words || element.closest("script, style, noscript, [aria-hidden=true]")) continue;
    if (!element.checkVisibility({ visibilityProperty: true, opacityProperty: true })) continue;
    const box = element.getBoundingClientRect();
    if (box.width <= 1 || box.height <= 1) continue;
    const style = getComputedStyle(element);
    const [r, g, b, a] = rgba(element instanceof SVGElement ? style.fill : style.color);
    const { colour: below, opacity } = ground(element);
    const measured = ratio(over([r, g, b, a * opacity], below), below);
    const size = parseFloat(style.fontSize);
    const large = size >= 24 || (size >= 18.66 && Number(style.fontWeight) >= 700);
    if (measured >= (large ? 3 : 4.5)) continue;
    const kind = `${element.tagName.toLowerCase()}.${element.getAttribute("class") || ""} in ${element.parentElement.getAttribute("class") || ""}`;
    if (!found.has(kind)) found.set(kind, `${measured.toFixed(2)}: "${words.slice(0, 40)}" (${kind})`);
  }
  return [...found.values()];
}
