// A look at the open page: what a reader could not see, read or reach.
(() => {
  // Colours that are on their way to others are nobody's to judge.
  const still = document.createElement("style");
  still.textContent = "*, *::before, *::after { transition: none !important; }";
  document.head.append(still);

  const visible = (element) => {
    const box = element.getBoundingClientRect();
    return box.width > 0 && box.height > 0 && getComputedStyle(element).visibility !== "hidden";
  };

  const parse = (colour) => {
    const found = colour.match(/[\d.]+/g).map(Number);
    return found.length < 4 ? [...found.slice(0, 3), 1] : found;
  };

  const over = (top, bottom) =>
    [0, 1, 2].map((i) => top[i] * top[3] + bottom[i] * (1 - top[3])).concat(1);

  const known = new Map();
  const background = (element) => {
    if (!element) return [255, 255, 255, 1];
    if (!known.has(element)) {
      const colour = parse(getComputedStyle(element).backgroundColor);
      const opaque = colour[3] === 1;
      known.set(element, opaque ? colour : over(colour, background(element.parentElement)));
    }
    return known.get(element);
  };

  const luminance = ([r, g, b]) => {
    const [x, y, z] = [r, g, b].map((v) => {
      const u = v / 255;
      return u <= 0.03928 ? u / 12.92 : ((u + 0.055) / 1.055) ** 2.4;
    });
    return 0.2126 * x + 0.7152 * y + 0.0722 * z;
  };

  const contrast = (a, b) => {
    const [high, low] = [luminance(a), luminance(b)].sort((x, y) => y - x);
    return (high + 0.05) / (low + 0.05);
  };

  // The levels of WCAG 2 AA: 4.5, and 3 for large text.
  const faint = () => {
    const found = new Map();
    const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
    while (walker.nextNode()) {
      const text = walker.currentNode.textContent.trim();
      const element = walker.currentNode.parentElement;
      if (!text || element.closest("script, style, svg, mjx-assistive-mml")) continue;
      if (!visible(element)) continue;
      const style = getComputedStyle(element);
      const behind = background(element);
      const ratio = contrast(over(parse(style.color), behind), behind);
      const size = parseFloat(style.fontSize);
      const large = size >= 24 || (size >= 18.66 && Number(style.fontWeight) >= 700);
      if (ratio < (large ? 3 : 4.5)) {
        found.set(`${style.color} on ${behind.slice(0, 3)}`, `${ratio.toFixed(2)}: ${text.slice(0, 40)}`);
      }
    }
    return [...found].map(([colours, text]) => `${colours}, ${text}`);
  };

  const scrolls = (element) => {
    for (let at = element; at && at !== document.body; at = at.parentElement) {
      if (at.matches("article")) return false;
      if (getComputedStyle(at).overflowX !== "visible") return true;
    }
    return false;
  };

  const wide = () =>
    document.documentElement.scrollWidth <= innerWidth
      ? []
      : [...document.querySelectorAll("article, article *")]
          .filter((element) => element.getBoundingClientRect().right > innerWidth + 1)
          .filter((element) => !scrolls(element.parentElement))
          .map((element) => `${element.tagName}.${element.className}`.slice(0, 80))
          .slice(-5);

  const cornerAlpha = (image) => {
    const canvas = document.createElement("canvas");
    [canvas.width, canvas.height] = [image.naturalWidth, image.naturalHeight];
    const context = canvas.getContext("2d");
    context.drawImage(image, 0, 0);
    return context.getImageData(1, 1, 1, 1).data[3];
  };

  window.survey = () => {
    known.clear();
    const images = [...document.querySelectorAll("img")];
    const figures = images.filter((i) => i.src.endsWith(".svg") && i.closest(".cell_output"));
    const math = [...document.querySelectorAll(".math")];
    return {
      faint: faint(),
      wide: wide(),
      images: images.map((image) => ({
        alt: image.getAttribute("alt"),
        source: (image.getAttribute("src") || "").slice(0, 80),
        broken: image.complete && image.naturalWidth === 0,
        content: image.closest("article") !== null,
      })),
      opaque: figures.filter((figure) => cornerAlpha(figure) > 0).map((figure) => figure.src),
      math: math.length,
      raw_math: math
        .filter((formula) => !formula.querySelector("mjx-container svg") || formula.querySelector("[data-mml-node=merror]"))
        .map((formula) => formula.textContent.slice(0, 80)),
      code: document.querySelectorAll("div.cell_input div.highlight").length,
      copied: document.querySelectorAll("div.cell_input button.copybtn").length,
      widgets: document.querySelectorAll(".gb-widget").length,
      headings: document.querySelectorAll("article h1").length,
    };
  };
})();
