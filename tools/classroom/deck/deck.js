// Starts reveal.js, and makes what a slide holds fit: first pictures, then print-outs, then all text grow smaller.
const HEIGHT = 720;
const SMALLEST_PICTURE = 330;
const SMALLEST_PRINT = 19; // about 105 columns; wider print is wrapped
const SMALLEST_TEXT = 20;

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

const excess = (slide) => slide.scrollHeight - HEIGHT;

function fitPictures(slide) {
  const pictures = [...slide.querySelectorAll(".jp-OutputArea-output img")];
  for (const picture of pictures) {
    const height = picture.offsetHeight - Math.max(0, excess(slide));
    picture.style.maxHeight = `${Math.max(height, SMALLEST_PICTURE)}px`;
  }
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

function fitText(slide) {
  for (let size = 23; size >= SMALLEST_TEXT && excess(slide) > 0; size -= 1) {
    slide.style.fontSize = `${size}px`;
    for (const code of slide.querySelectorAll("pre")) {
      if (parseFloat(getComputedStyle(code).fontSize) > size) code.style.fontSize = `${size}px`;
    }
  }
}

function fit() {
  const slide = Reveal.getCurrentSlide();
  if (!slide || slide.dataset.fitted) return;
  fitPrint(slide);
  fitPictures(slide);
  fitText(slide);
  slide.classList.toggle("scrolls", excess(slide) > 0);
  slide.dataset.fitted = "yes";
}

Reveal.on("ready", fit);
Reveal.on("slidechanged", fit);
for (const link of document.querySelectorAll(".slides a[href^=http]")) link.target = "_blank";
