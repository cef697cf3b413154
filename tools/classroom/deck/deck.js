// Cuts each slide by its real height into as many as it needs, then starts reveal.js. Nothing is made smaller
// than can be read from the last row: a wide print-out and a picture give way a little, all else is 24 pixels.
const HEIGHT = 720;
const LAST = 690; // where a slide ends at the latest: margins and frames close below it
const SMALLEST_PICTURE = 330;
const SMALLEST_PRINT = 19; // about 105 columns; wider print is wrapped

// What it costs to cut in such a place, in pixels that the slide is higher or lower than it should be
const COST = { cell: 0, block: 120, line: 400 };
const CELLS = ".jp-Cell, .jp-Cell-outputWrapper, .jp-OutputArea-child";
const BLOCKS = ".jp-RenderedMarkdown > *";
const LINES = "li + li, tbody tr + tr";
const STATEMENT = /^[^\s)\]}]/; // a line that begins one, at the left margin

const cells = [...document.querySelectorAll(".jp-Cell")];
const topOf = (place) => place.getBoundingClientRect().top;

// What explains a result, and the code that a question is about, leave the cell above them only in need.
function costBefore(element) {
  if (element.matches(LINES)) return COST.line;
  const above = element.matches(".jp-Cell") && cells[cells.indexOf(element) - 1];
  const pair = above && above.classList.contains("jp-CodeCell") !== element.classList.contains("jp-CodeCell");
  return pair || !element.matches(CELLS) ? COST.block : COST.cell;
}

// Where the lines of a print-out or of code begin; the first is left out.
function* lineStarts(pre) {
  const nodes = document.createTreeWalker(pre, NodeFilter.SHOW_TEXT);
  const isCode = pre.closest(".jp-InputArea-editor");
  let above = "";
  for (let node = nodes.nextNode(); node; node = nodes.nextNode()) {
    for (let at = 0; at < node.length; at += 1) {
      if (above.endsWith("\n")) {
        const range = document.createRange();
        range.setStart(node, at);
        range.setEnd(node, at + 1);
        const apart = isCode && STATEMENT.test(node.data[at]) && !/^@.*\n$/m.test(above);
        yield { range, y: topOf(range), cost: apart ? COST.block : COST.line };
        above = "";
      }
      above += node.data[at];
    }
  }
}

// The places where a slide can be cut, from top to bottom: not below a heading or a line that leads on.
function* places(slide) {
  let above = null;
  for (const element of slide.querySelectorAll(`${CELLS}, ${BLOCKS}, ${LINES}, pre`)) {
    const leadsOn = above && (/^H\d$/.test(above.tagName) || above.textContent.trim().endsWith(":"));
    if (above && !leadsOn && element.matches(`${CELLS}, ${BLOCKS}, ${LINES}`)) {
      const range = document.createRange();
      range.setStartBefore(element);
      yield { range, y: topOf(element), cost: costBefore(element) };
    }
    if (!element.matches(CELLS)) above = element;
    if (element.matches("pre")) yield* lineStarts(element);
  }
}

// Moves what does not fit on a slide to a new one behind it, which is returned; null where all fits. All slides
// that come of it are about as high as each other.
function cut(slide) {
  const total = slide.scrollHeight;
  if (total <= HEIGHT) return null;
  const all = [...places(slide)].filter(({ y }) => y > topOf(slide) + 60);
  const aim = topOf(slide) + total / Math.ceil(total / HEIGHT);
  const price = ({ y, cost }) => cost + Math.abs(y - aim);
  const [best = all[0]] = all.filter(({ y }) => y <= topOf(slide) + LAST).sort((a, b) => price(a) - price(b));
  if (!best) return null;
  const range = best.range;
  const head = range.startContainer.parentElement.closest("table")?.tHead;
  range.setEndAfter(slide.lastChild);
  const rest = document.createElement("section");
  rest.append(range.extractContents()); // with copies of the elements that the cut goes through
  if (head && !rest.querySelector("thead")) rest.querySelector("table").prepend(head.cloneNode(true));
  for (let node = rest; node; node = node.firstElementChild) node.classList.remove("fragment");
  slide.after(rest);
  return rest;
}

function fitPrint(slide) {
  for (const print of slide.querySelectorAll(".jp-OutputArea-output pre")) {
    print.style.whiteSpace = "pre";
    const share = print.clientWidth / print.scrollWidth;
    const size = Math.floor(parseFloat(getComputedStyle(print).fontSize) * share);
    if (share < 1 && size >= SMALLEST_PRINT) print.style.fontSize = `${size}px`;
    else print.style.whiteSpace = "";
  }
}

// Pictures are small while a slide is cut; then they grow into the room that is left.
function fit(slide) {
  for (const picture of slide.querySelectorAll("img")) picture.style.maxHeight = `${SMALLEST_PICTURE}px`;
  const rest = cut(slide);
  const pictures = slide.querySelectorAll("img");
  const room = Math.max(0, HEIGHT - slide.scrollHeight) / pictures.length;
  for (const picture of pictures) picture.style.maxHeight = `${SMALLEST_PICTURE + room}px`;
  if (rest) fit(rest);
}

addEventListener("load", () => {
  document.body.classList.add("measuring");
  for (const slide of document.querySelectorAll(".slides > section > section")) {
    fitPrint(slide);
    fit(slide);
  }
  document.body.classList.remove("measuring");
  Reveal.initialize({
    width: 1280,
    height: HEIGHT,
    margin: 0,
    maxScale: 4,
    center: false,
    hash: true,
    slideNumber: "c/t",
    transition: "none",
    plugins: [RevealNotes],
  });
});
for (const link of document.querySelectorAll(".slides a[href^=http]")) link.target = "_blank";
