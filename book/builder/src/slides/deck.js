// Turns the pages of a deck. Without this script the slides stand one below the other.
const slides = [...document.querySelectorAll(".slide")];
const stage = document.querySelector(".stage");
let now = 0;

function show(index) {
    slides[now].classList.remove("now");
    now = Math.max(0, Math.min(slides.length - 1, index));
    slides[now].classList.add("now");
    if (location.hash !== `#${now + 1}`) location.replace(`#${now + 1}`);
}

function fit() {
    const scale = Math.min(innerWidth / 1280, innerHeight / 720);
    stage.style.transform = `scale(${scale})`;
    stage.style.left = `${(innerWidth - 1280 * scale) / 2}px`;
    stage.style.top = `${(innerHeight - 720 * scale) / 2}px`;
}

const keys = {
    ArrowRight: () => show(now + 1),
    ArrowDown: () => show(now + 1),
    PageDown: () => show(now + 1),
    " ": () => show(now + 1),
    ArrowLeft: () => show(now - 1),
    ArrowUp: () => show(now - 1),
    PageUp: () => show(now - 1),
    Home: () => show(0),
    End: () => show(slides.length - 1),
    n: () => document.body.classList.toggle("speaking"),
    f: () => document.fullscreenElement ? document.exitFullscreen() : document.documentElement.requestFullscreen(),
};

addEventListener("keydown", event => {
    const turn = keys[event.key];
    if (!turn || event.ctrlKey || event.metaKey || event.altKey) return;
    event.preventDefault();
    turn();
});

// A finger that moves sideways turns the page too.
let from = null;
addEventListener("touchstart", event => { from = event.changedTouches[0].clientX; });
addEventListener("touchend", event => {
    const moved = event.changedTouches[0].clientX - from;
    if (Math.abs(moved) > 50) show(now + (moved < 0 ? 1 : -1));
});

addEventListener("hashchange", () => show(Number(location.hash.slice(1)) - 1));
addEventListener("resize", fit);
document.body.classList.add("shown");
fit();
show((Number(location.hash.slice(1)) || 1) - 1);
