(() => {
  const canvas = document.createElement("canvas").getContext("2d", { willReadFrequently: true });
  canvas.canvas.width = canvas.canvas.height = 1;
  const pixel = (layers) => {
    canvas.globalAlpha = 1;
    canvas.fillStyle = matchMedia("(prefers-color-scheme: dark)").matches ? "#000" : "#fff";
    canvas.fillRect(0, 0, 1, 1);
    for (const [colour, alpha] of layers) {
      canvas.globalAlpha = alpha;
      canvas.fillStyle = colour;
      canvas.fillRect(0, 0, 1, 1);
    }
    return [...canvas.getImageData(0, 0, 1, 1).data.slice(0, 3)];
  };
  const luminance = (rgb) => {
    const [r, g, b] = rgb.map((c) => c / 255).map((c) => (c <= 0.04045 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4));
    return 0.2126 * r + 0.7152 * g + 0.0722 * b;
  };
  const out = [], walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  for (let node = walker.nextNode(); node; node = walker.nextNode()) {
    const text = node.textContent.trim(), element = node.parentElement;
    if (!text || !element.checkVisibility({ visibilityProperty: true, opacityProperty: true })) continue;
    if (element.closest("script, style, noscript, option, desc, title")) continue;
    if (element.closest("button, select, input, fieldset")?.disabled) continue;
    const style = getComputedStyle(element), svg = element.closest("svg");
    const backgrounds = [];
    let opacity = 1;
    for (let e = element; e; e = e.parentElement) {
      const s = getComputedStyle(e);
      opacity *= Number(s.opacity);
      backgrounds.unshift([s.backgroundColor, 1]);
    }
    const below = pixel(backgrounds), above = pixel([...backgrounds, [svg ? style.fill : style.color, opacity]]);
    const [a, b] = [luminance(below), luminance(above)].sort((x, y) => y - x), ratio = (a + 0.05) / (b + 0.05);
    const size = parseFloat(style.fontSize), large = size >= 24 || (size >= 18.66 && Number(style.fontWeight) >= 700);
    if (ratio < (large ? 3 : 4.5)) out.push(`${ratio.toFixed(2)} <${element.localName} class="${element.getAttribute("class") ?? ""}"> ${text.slice(0, 50)}`);
  }
  return [...new Set(out)].slice(0, 20);
})()
