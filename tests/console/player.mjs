// Plays a cast in asciinema-player, the one that web pages use, and prints what it shows.
//
//     node player.mjs FILE SECOND...
//
// One line of JSON: {"metadata": {...}, "screens": [text, ...]}. The player and its terminal are the real
// ones; jsdom is the page. What a page draws with, and jsdom lacks, does nothing here: canvas, animation.

import fs from "node:fs";
import { JSDOM } from "jsdom";

const page = new JSDOM("<div id=player></div>", { pretendToBeVisual: true, url: "http://localhost/" });
const { window } = page;
const { prototype } = window.HTMLCanvasElement;
prototype.getContext = () => new Proxy({}, { get: () => () => ({ width: 8 }), set: () => true });
window.Element.prototype.animate = () => ({ cancel() {}, play() {}, pause() {}, finish() {} });
window.ResizeObserver = class { observe() {} unobserve() {} disconnect() {} };
window.matchMedia = () => ({ matches: false, addEventListener() {}, removeEventListener() {} });
window.document.fonts ??= { load: async () => [], ready: Promise.resolve() };
globalThis.window = window;
for (const name of Object.getOwnPropertyNames(window)) {
  if (!(name in globalThis)) globalThis[name] = window[name];
}

const { create } = await import("asciinema-player");
const [file, ...seconds] = process.argv.slice(2);
const cast = { data: fs.readFileSync(file, "utf8") };
const player = create(cast, window.document.getElementById("player"), { preload: true });
player.addEventListener("error", (error) => {
  console.error(error);
  process.exit(1);
});
const metadata = await new Promise((resolve) => player.addEventListener("metadata", resolve));
const painted = () => new Promise((resolve) => setTimeout(resolve, 100));
const screens = [];
for (const second of seconds) {
  await player.seek(Number(second));
  await painted();
  const lines = [...window.document.querySelectorAll(".ap-line")];
  screens.push(lines.map((line) => line.textContent.trimEnd()).join("\n"));
}
process.stdout.write(JSON.stringify({ metadata, screens }), () => process.exit(0));
