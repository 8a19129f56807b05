"""What a reader would see of a page that is badly laid out, measured in a browser: cut off, tiny or faint."""

from typing import Any

WIDTHS = (400, 1400)  # pixels: a telephone, a desk
SCHEMES = ("light", "dark")
MEGABYTE = 1_000_000
SMALLEST_TEXT = 10  # pixels, as drawn
CONTRAST = 4.5  # WCAG 2, section 1.4.3

# Every fault as a line. A pixel of slack: borders lie between pixels.
FAULTS = """([smallest, contrast]) => {
  const width = document.documentElement.clientWidth, faults = [], slack = 1;
  const told = (element) => `${element.tagName.toLowerCase()}${element.id ? "#" + element.id : ""} `
    + `${(element.getAttribute("class") ?? "")} "${element.textContent.trim().slice(0, 30)}"`;
  const inside = (inner, outer) => inner.left >= outer.left - slack && inner.right <= outer.right + slack;
  const rgba = (text) => [...text.match(/[0-9.]+/g).map(Number), 1].slice(0, 4);
  const luminance = ([red, green, blue]) => [red, green, blue]
    .map((value) => (value <= 10 ? value / 255 / 12.92 : ((value / 255 + 0.055) / 1.055) ** 2.4))
    .reduce((sum, value, place) => sum + value * [0.2126, 0.7152, 0.0722][place], 0);
  const behind = (element) => {
    for (let at = element; at; at = at.parentElement) {
      const colour = rgba(getComputedStyle(at).backgroundColor);
      if (colour[3] === 1) return colour;
    }
    return matchMedia("(prefers-color-scheme: dark)").matches ? [18, 18, 18] : [255, 255, 255];
  };
  const whole = document.documentElement.scrollWidth, edges = { left: 0, right: width };
  if (whole > width) faults.push(`the page is ${whole} wide`);
  for (const element of document.body.querySelectorAll("*")) {
    const box = element.getBoundingClientRect(), style = getComputedStyle(element);
    if (!box.width || !box.height || ["SCRIPT", "STYLE"].includes(element.tagName)) continue;
    const drawing = element.ownerSVGElement;
    const scroller = (() => {
      for (let at = element.parentElement; at && at !== document.body; at = at.parentElement) {
        if (["auto", "scroll"].includes(getComputedStyle(at).overflowX)) return at;
      }
    })();
    if (!inside(box, edges) && !(scroller && inside(scroller.getBoundingClientRect(), edges))) {
      faults.push(`beyond the window: ${told(element)}: ${Math.round(box.left)} to ${Math.round(box.right)}`);
    }
    if (["hidden", "clip"].includes(style.overflowX) && !drawing && element.tagName !== "svg"
        && element.scrollWidth > element.clientWidth + slack) {
      faults.push(`cut off: ${told(element)}`);
    }
    const own = [...element.childNodes].some((child) => child.nodeType === Node.TEXT_NODE && child.data.trim());
    if (!own || element.tagName === "TITLE" || element.tagName === "title") continue;
    if (drawing && !inside(box, drawing.getBoundingClientRect())) faults.push(`beyond its drawing: ${told(element)}`);
    const matrix = drawing?.getScreenCTM();
    const size = parseFloat(style.fontSize) * (matrix ? Math.hypot(matrix.b, matrix.d) : 1);
    if (size < smallest) faults.push(`text of ${size.toFixed(1)} pixels: ${told(element)}`);
    const ink = rgba(drawing ? style.fill : style.color);
    const sides = [ink, behind(element)].map((colour) => luminance(colour) + 0.05);
    const found = Math.max(...sides) / Math.min(...sides);
    if (found < contrast) faults.push(`faint: ${told(element)}: ${found.toFixed(1)}`);
  }
  return [...new Set(faults)];
}"""


def layout_faults(page: Any) -> list[str]:
    """What is cut off, too small or too faint on an open page."""
    return list(page.evaluate(FAULTS, [SMALLEST_TEXT, CONTRAST]))
