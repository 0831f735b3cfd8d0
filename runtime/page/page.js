"use strict";
const data = document.getElementById("pictures");
const pictures = JSON.parse(data.textContent);
const frames = Math.max(1, Number(data.dataset.frames));
const slider = document.getElementById("at");
let shown = 0;

function show(number) {
  shown = Math.min(Math.max(number, 0), pictures.length - 1);
  const one = pictures[shown];
  document.getElementById("picture").src = one.src;
  const caption = document.getElementById("caption");
  caption.textContent = one.said;
  caption.classList.toggle("bad", one.failed);
  slider.value = shown;
  document.querySelectorAll(".cursor").forEach((line) => {
    line.style.left = `${100 * (one.at + 0.5) / frames}%`;
  });
}

function seek(event) {
  const box = event.currentTarget.getBoundingClientRect();
  const frame = frames * (event.clientX - box.left) / box.width;
  let best = 0;
  pictures.forEach((one, number) => {
    if (Math.abs(one.at - frame) < Math.abs(pictures[best].at - frame)) best = number;
  });
  show(best);
}

if (pictures.length) {
  slider.addEventListener("input", () => show(Number(slider.value)));
  document.getElementById("back").addEventListener("click", () => show(shown - 1));
  document.getElementById("on").addEventListener("click", () => show(shown + 1));
  document.addEventListener("keydown", (event) => {
    const step = { ArrowLeft: -1, ArrowRight: 1 }[event.key];
    if (step && event.target !== slider) show(shown + step);
  });
  document.querySelectorAll(".track").forEach((track) => track.addEventListener("click", seek));
  show(Number(slider.value));
}
